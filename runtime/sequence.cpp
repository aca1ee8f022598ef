#include "runtime/sequence.h"

#include <algorithm>

#include "base/error.h"

namespace hybrid {

Sequence::Sequence(const Model& model, uint32_t n_ctx, const ExecutionOptions& options)
    : model_(model),
      n_ctx_(n_ctx),
      n_ubatch_(std::min({options.n_ubatch, options.n_batch, n_ctx})),
      cache_(model.make_cache(n_ctx, options.cache_type)),
      act_(model.config(), n_ubatch_),
      decode_workers_(options.n_threads) {
  if (options.n_threads_batch != options.n_threads) batch_workers_.emplace(options.n_threads_batch);
}

void Sequence::truncate(size_t n) {
  HYBRID_CHECK(n <= tokens_.size());
  tokens_.resize(n);
}

bool Sequence::append(const AppendArgs& args) {
  const auto n_total = static_cast<uint32_t>(args.tokens.size());
  HYBRID_CHECK(n_total <= n_free() && args.n_logit_rows <= n_total);
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
    if (done + n > first_logit) {
      forward.n_logit_rows = std::min(n, done + n - first_logit);
      const uint64_t row = done + n - forward.n_logit_rows - first_logit;
      forward.logits = args.logits + row * model_.config().n_vocab;
    }
    Workers& workers = n > 1 && batch_workers_ ? *batch_workers_ : decode_workers_;
    if (!model_.forward(forward, cache_, act_, workers)) return false;
    tokens_.insert(tokens_.end(), forward.tokens.begin(), forward.tokens.end());
    done += n;
  }
  return true;
}

}  // namespace hybrid
