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
  const uint64_t n_layers = model.config().n_layers;
  const uint64_t n_elsewhere = n_layers - model.placement().n_cached_layers(0);
  if (plan.n_bytes() - plan.cache_bytes / n_layers * n_elsewhere > available) {
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
      cache_(plan_.cache, model.placement(), model.devices()),
      lanes_(model.config(), plan_, model.devices()),
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

bool Sequence::run(const ForwardArgs& forward) {
  Workers& workers =
      forward.tokens.size() > 1 && batch_workers_ ? *batch_workers_ : decode_workers_;
  lanes_.host().use(workers);
  return model_.forward(forward, lanes_);
}

void Sequence::keep(std::span<const TokenId> tokens, std::span<const float> logits) {
  const uint64_t n_vocab = model_.config().n_vocab;
  check_finite(logits, n_vocab, tokens_.size() + tokens.size() - logits.size() / n_vocab);
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
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
    segments.push_back(s.next_segment(part.tokens.size()));
    if (part.logits != nullptr) logit_tokens.push_back(static_cast<uint32_t>(tokens.size() - 1));
  }
  HYBRID_CHECK(tokens.size() <= first.plan_.n_ubatch);
  const uint64_t n_vocab = first.model_.config().n_vocab;
  std::vector<float> logits(logit_tokens.size() * n_vocab);
  const bool is_done = first.run({.tokens = tokens,
                                  .segments = segments,
                                  .logit_tokens = logit_tokens,
                                  .logits = logits.data(),
                                  .stop = stop});
  if (!is_done) return false;
  std::span<const float> rows = logits;
  for (const Part& part : parts) {
    const auto own = rows.first(part.logits == nullptr ? 0 : n_vocab);
    part.sequence->keep(part.tokens, own);
    std::copy(own.begin(), own.end(), part.logits);
    rows = rows.subspan(own.size());
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
  const uint64_t n_vocab = model_.config().n_vocab;
  const uint32_t first_logit = n_total - args.n_logit_rows;
  for (uint32_t done = 0; done < n_total;) {
    const uint32_t n = std::min(plan_.n_ubatch, n_total - done);
    const uint32_t n_logits = std::min(n, done + n - std::min(done + n, first_logit));
    std::vector<uint32_t> logit_tokens(n_logits);
    std::iota(logit_tokens.begin(), logit_tokens.end(), n - n_logits);
    float* logits = args.logits;
    if (n_logits > 0) logits += (done + n - n_logits - first_logit) * n_vocab;
    const auto tokens = args.tokens.subspan(done, n);
    const BatchSegment segment = next_segment(n);
    const bool is_done = run({.tokens = tokens,
                              .segments = {&segment, 1},
                              .logit_tokens = logit_tokens,
                              .logits = logits,
                              .choice_offset = args.choice_offset + done,
                              .replay = args.replay,
                              .record = args.record,
                              .stop = args.stop});
    if (!is_done) return false;
    keep(tokens, {logits, n_logits * n_vocab});
    done += n;
  }
  return true;
}

}  // namespace hybrid
