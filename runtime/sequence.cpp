#include "runtime/sequence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/units.h"
#include "numa/memory_info.h"

namespace hybrid {

namespace {

SequencePlan checked_plan(const Model& model, uint32_t n_ctx, const ExecutionOptions& options) {
  const SequencePlan plan = plan_sequence(model.config(), model.weights(), n_ctx, options);
  const uint64_t available = available_memory_bytes();
  if (plan.n_bytes() > available) {
    fail("not enough memory: {}, available are {}; lower -c or -ub", plan.needs(),
         format_bytes(available));
  }
  return plan;
}

void check_finite(std::span<const float> logits, uint64_t n_vocab, uint64_t first_position) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) {
      fail(
          "the model's output at position {} is not a finite number; its file is damaged, or this "
          "is a bug",
          first_position + i / n_vocab);
    }
  }
}

}  // namespace

Sequence::Sequence(const Model& model, uint32_t n_ctx, const ExecutionOptions& options)
    : model_(model),
      plan_(checked_plan(model, n_ctx, options)),
      cache_(plan_.cache),
      act_(model.config(), plan_.n_ubatch, plan_.attention),
      decode_workers_(options.n_threads) {
  if (options.n_threads_batch != options.n_threads) batch_workers_.emplace(options.n_threads_batch);
}

void Sequence::truncate(size_t n) {
  HYBRID_CHECK(n <= tokens_.size());
  tokens_.resize(n);
}

void Sequence::set_tokens(std::vector<TokenId> tokens) {
  HYBRID_CHECK(tokens.size() <= n_ctx());
  tokens_ = std::move(tokens);
}

void Sequence::copy_prefix(Sequence& from, size_t n) {
  HYBRID_CHECK(&from.model_ == &model_ && n <= from.tokens_.size() && n <= n_ctx());
  cache_.copy_prefix(from.cache_, static_cast<uint32_t>(n));
  tokens_.assign(from.tokens_.begin(), from.tokens_.begin() + static_cast<std::ptrdiff_t>(n));
}

bool Sequence::append_together(std::span<const Part> parts, const std::atomic<bool>* stop) {
  HYBRID_CHECK(!parts.empty());
  Sequence& first = *parts.front().sequence;
  std::vector<TokenId> tokens;
  std::vector<BatchSegment> segments;
  std::vector<uint32_t> logit_tokens;
  for (const Part& part : parts) {
    Sequence& s = *part.sequence;
    HYBRID_CHECK(&s.model_ == &first.model_ && s.n_ctx() <= first.n_ctx());
    HYBRID_CHECK(!part.tokens.empty() && part.tokens.size() <= s.n_free());
    tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    segments.push_back({&s.cache_, static_cast<uint32_t>(s.tokens_.size()),
                        static_cast<uint32_t>(part.tokens.size())});
    if (part.logits != nullptr) logit_tokens.push_back(static_cast<uint32_t>(tokens.size() - 1));
  }
  HYBRID_CHECK(tokens.size() <= first.plan_.n_ubatch);
  const uint64_t n_vocab = first.model_.config().n_vocab;
  std::vector<float> logits(logit_tokens.size() * n_vocab);
  ForwardArgs forward;
  forward.tokens = tokens;
  forward.segments = segments;
  forward.logit_tokens = logit_tokens;
  forward.logits = logits.data();
  forward.stop = stop;
  Workers& workers =
      tokens.size() > 1 && first.batch_workers_ ? *first.batch_workers_ : first.decode_workers_;
  if (!first.model_.forward(forward, first.act_, workers)) return false;
  const float* row = logits.data();
  for (const Part& part : parts) {
    Sequence& s = *part.sequence;
    s.tokens_.insert(s.tokens_.end(), part.tokens.begin(), part.tokens.end());
    if (part.logits == nullptr) continue;
    check_finite({row, n_vocab}, n_vocab, s.tokens_.size() - 1);
    std::copy_n(row, n_vocab, part.logits);
    row += n_vocab;
  }
  return true;
}

bool Sequence::append(const AppendArgs& args) {
  const auto n_total = static_cast<uint32_t>(args.tokens.size());
  HYBRID_CHECK(n_total <= n_free() && args.n_logit_rows <= n_total);
  for (const ExpertChoice* choice : {args.replay, static_cast<const ExpertChoice*>(args.record)}) {
    HYBRID_CHECK(choice == nullptr || (choice->n_moe_layers == model_.config().n_moe_layers() &&
                                       choice->n_used == model_.config().moe.n_used &&
                                       uint64_t{args.choice_offset} + n_total <= choice->n_tokens));
  }
  const uint32_t first_logit = n_total - args.n_logit_rows;
  for (uint32_t done = 0; done < n_total;) {
    const uint32_t n = std::min(plan_.n_ubatch, n_total - done);
    ForwardArgs forward;
    forward.tokens = args.tokens.subspan(done, n);
    const auto first_position = static_cast<uint32_t>(tokens_.size());
    const BatchSegment segment{&cache_, first_position, n};
    forward.segments = std::span(&segment, 1);
    forward.choice_offset = args.choice_offset + done;
    forward.replay = args.replay;
    forward.record = args.record;
    forward.stop = args.stop;
    const uint32_t n_logits = std::min(n, done + n - std::min(done + n, first_logit));
    std::vector<uint32_t> logit_tokens(n_logits);
    std::iota(logit_tokens.begin(), logit_tokens.end(), n - n_logits);
    forward.logit_tokens = logit_tokens;
    if (n_logits > 0) {
      const uint64_t row = done + n - n_logits - first_logit;
      forward.logits = args.logits + row * model_.config().n_vocab;
    }
    Workers& workers = n > 1 && batch_workers_ ? *batch_workers_ : decode_workers_;
    if (!model_.forward(forward, act_, workers)) return false;
    const uint64_t n_vocab = model_.config().n_vocab;
    check_finite({forward.logits, n_logits * n_vocab}, n_vocab, first_position + n - n_logits);
    tokens_.insert(tokens_.end(), forward.tokens.begin(), forward.tokens.end());
    done += n;
  }
  return true;
}

}  // namespace hybrid
