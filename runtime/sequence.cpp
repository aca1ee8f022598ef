#include "runtime/sequence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
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
      trace_(options.trace),
      plan_(checked_plan(model, n_ctx, options)),
      cache_(plan_.cache, model.placement(), model.devices()),
      lanes_(model.config(), plan_, model.devices(), options.trace),
      decode_workers_(make_workers(options.nodes.get(), options.n_threads)) {
  if (options.n_threads_batch != options.n_threads) {
    batch_workers_ = make_workers(options.nodes.get(), options.n_threads_batch);
  }
}

Workers::SliceCounts Sequence::slice_counts() const {
  Workers::SliceCounts all = decode_workers_->slice_counts();
  if (batch_workers_ == nullptr) return all;
  const Workers::SliceCounts more = batch_workers_->slice_counts();
  return {all.n_near + more.n_near, all.n_far + more.n_far};
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

namespace {

/// "512 + 100 tokens behind 1024"
std::string step_text(std::span<const ForwardArgs> batches) {
  std::vector<std::string> numbers;
  for (const ForwardArgs& args : batches) numbers.push_back(std::to_string(args.tokens.size()));
  return fmt::format("{} tokens behind {}", join(numbers, " + "),
                     batches.front().segments.front().first_position);
}

}  // namespace

uint32_t Sequence::run(std::span<const ForwardArgs> batches) {
  const bool is_token = batches.size() == 1 && batches.front().tokens.size() == 1;
  Workers& workers = !is_token && batch_workers_ ? *batch_workers_ : *decode_workers_;
  lanes_.host().use(workers);
  const ScopedPin pin = workers.pin_caller();
  const TraceZone zone(trace_, trace_ == nullptr ? 0 : trace_->track("steps"),
                       is_token ? "decode" : "prefill",
                       trace_ == nullptr ? "" : step_text(batches));
  return model_.forward(batches, lanes_);
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
  const ForwardArgs batch{.tokens = tokens,
                          .segments = segments,
                          .logit_tokens = logit_tokens,
                          .logits = logits.data(),
                          .stop = stop};
  if (first.run({&batch, 1}) == 0) return false;
  std::span<const float> rows = logits;
  for (const Part& part : parts) {
    const auto own = rows.first(part.logits == nullptr ? 0 : n_vocab);
    part.sequence->keep(part.tokens, own);
    std::copy(own.begin(), own.end(), part.logits);
    rows = rows.subspan(own.size());
  }
  return true;
}

/// A micro-batch of append()'s tokens.
struct Sequence::Chunk {
  ForwardArgs args;
  BatchSegment segment;
  std::vector<uint32_t> logit_tokens;

  uint32_t n_tokens() const { return segment.n_tokens; }
  /// Valid as long as this is, where it is.
  ForwardArgs forward_args() const {
    ForwardArgs forward = args;
    forward.segments = {&segment, 1};
    forward.logit_tokens = logit_tokens;
    return forward;
  }
};

Sequence::Chunk Sequence::chunk_of(const AppendArgs& args, uint32_t first_position,
                                   uint32_t first) {
  const auto n_total = static_cast<uint32_t>(args.tokens.size());
  const uint32_t first_logit = n_total - args.n_logit_rows;
  const uint32_t n = std::min(plan_.n_ubatch, n_total - first), end = first + n;
  const uint32_t n_logits = std::min(n, end - std::min(end, first_logit));
  Chunk chunk;
  chunk.logit_tokens.resize(n_logits);
  std::iota(chunk.logit_tokens.begin(), chunk.logit_tokens.end(), n - n_logits);
  chunk.segment = {&cache_, first_position + first, n};
  chunk.args = {.tokens = args.tokens.subspan(first, n),
                .segments = {},
                .logit_tokens = {},
                .choice_offset = args.choice_offset + first,
                .replay = args.replay,
                .record = args.record,
                .stop = args.stop};
  if (n_logits > 0) {
    chunk.args.logits =
        args.logits + uint64_t{end - n_logits - first_logit} * model_.config().n_vocab;
  }
  return chunk;
}

bool Sequence::append(const AppendArgs& args) {
  const auto n_total = static_cast<uint32_t>(args.tokens.size());
  HYBRID_CHECK(n_total <= n_free() && args.n_logit_rows <= n_total);
  for (const ExpertChoice* choice : {args.replay, static_cast<const ExpertChoice*>(args.record)}) {
    HYBRID_CHECK(choice == nullptr || (choice->n_moe_layers == model_.config().n_moe_layers() &&
                                       choice->n_used == model_.config().moe.n_used &&
                                       uint64_t{args.choice_offset} + n_total <= choice->n_tokens));
  }
  const auto first_position = static_cast<uint32_t>(tokens_.size());
  for (uint32_t done = 0; done < n_total;) {
    std::vector<Chunk> chunks;
    for (uint32_t end = done; end < n_total && chunks.size() < plan_.n_in_pass;) {
      chunks.push_back(chunk_of(args, first_position, end));
      end += chunks.back().n_tokens();
    }
    std::vector<ForwardArgs> batches;
    for (const Chunk& chunk : chunks) batches.push_back(chunk.forward_args());
    const uint32_t n_done = run(batches);
    for (const ForwardArgs& batch : std::span(batches).first(n_done)) {
      keep(batch.tokens, {batch.logits, batch.logit_tokens.size() * model_.config().n_vocab});
      done += static_cast<uint32_t>(batch.tokens.size());
    }
    if (n_done < batches.size()) return false;
  }
  return true;
}

}  // namespace hybrid
