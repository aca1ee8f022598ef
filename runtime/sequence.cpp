#include "runtime/sequence.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/units.h"
#include "numa/memory_info.h"

namespace hybrid {

namespace {

void check_memory(const Model& model, uint32_t n_ctx, uint32_t n_ubatch, MlaMode mla,
                  uint64_t cache_bytes) {
  const uint64_t activation_bytes = Activations::n_bytes(model.config(), n_ubatch, mla);
  const uint64_t available = available_memory_bytes();
  if (cache_bytes > available || activation_bytes > available - cache_bytes) {
    fail(
        "not enough memory: the cache of {} tokens needs {}, a micro-batch of {} tokens {}, "
        "available are {}; lower -c or -ub",
        n_ctx, format_bytes(cache_bytes), n_ubatch, format_bytes(activation_bytes),
        format_bytes(available));
  }
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
      n_ctx_(n_ctx),
      n_ubatch_(std::min({options.n_ubatch, options.n_batch, n_ctx})),
      mla_(options.mla),
      cache_(model.make_cache(n_ctx, options.cache_type)),
      act_((check_memory(model, n_ctx, n_ubatch_, mla_, cache_.n_bytes()), model.config()),
           n_ubatch_, mla_),
      decode_workers_(options.n_threads) {
  if (options.n_threads_batch != options.n_threads) batch_workers_.emplace(options.n_threads_batch);
}

uint64_t Sequence::activation_bytes() const {
  return Activations::n_bytes(model_.config(), n_ubatch_, mla_);
}

void Sequence::truncate(size_t n) {
  HYBRID_CHECK(n <= tokens_.size());
  tokens_.resize(n);
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
    const uint32_t n = std::min(n_ubatch_, n_total - done);
    ForwardArgs forward;
    forward.tokens = args.tokens.subspan(done, n);
    forward.first_position = static_cast<uint32_t>(tokens_.size());
    forward.choice_offset = args.choice_offset + done;
    forward.replay = args.replay;
    forward.record = args.record;
    forward.stop = args.stop;
    forward.mla = mla_;
    if (done + n > first_logit) {
      forward.n_logit_rows = std::min(n, done + n - first_logit);
      const uint64_t row = done + n - forward.n_logit_rows - first_logit;
      forward.logits = args.logits + row * model_.config().n_vocab;
    }
    Workers& workers = n > 1 && batch_workers_ ? *batch_workers_ : decode_workers_;
    if (!model_.forward(forward, cache_, act_, workers)) return false;
    const uint64_t n_vocab = model_.config().n_vocab;
    check_finite({forward.logits, forward.n_logit_rows * n_vocab}, n_vocab,
                 forward.first_position + n - forward.n_logit_rows);
    tokens_.insert(tokens_.end(), forward.tokens.begin(), forward.tokens.end());
    done += n;
  }
  return true;
}

}  // namespace hybrid
