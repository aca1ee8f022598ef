#include "runtime/model.h"

#include <utility>

#include "base/error.h"
#include "tensor/dequantize.h"
#include "tensor/parallel_matmul.h"
#include "tensor/rms_norm.h"

namespace hybrid {

Model::Model(const std::filesystem::path& path, ExpertGroups groups)
    : file_(GgufFile::open(path)), config_(read_model_config(file_, groups)), rope_(config_.rope) {
  weights_ = bind_weights(file_, config_);
  if (!weights_.unused.empty()) config_.notes.push_back(unused_note(weights_));
}

void Model::pack(Workers& workers, const LoadProgress& progress, const TensorSet& kept) {
  packed_.pack(weights_, kept, workers, progress);
}

void Model::prepare_decode(Workers& workers) { decode_.make(config_.mla, weights_, workers); }

void Model::load_packed(Workers& workers, const LoadProgress& progress, const TensorSet& kept) {
  packed_.load(file_, weights_, kept, workers, progress, config_.notes);
}

std::filesystem::path Model::write_cache(Workers& workers, const LoadProgress& progress) {
  PanelCacheWriter writer(panel_cache_paths(file_.parts().front().path), file_,
                          packable_weights(std::as_const(weights_)));
  pack(workers, progress);
  writer.write(packed_.memory(), workers, progress);
  return writer.path();
}

void Model::embed(const ForwardArgs& args, Activations& act) const {
  for (size_t t = 0; t < args.tokens.size(); ++t) {
    HYBRID_CHECK(args.tokens[t] >= 0 && static_cast<uint32_t>(args.tokens[t]) < config_.n_vocab);
    dequantize(weights_.token_embd.type, weights_.token_embd.row(args.tokens[t]),
               act.hidden.data() + t * config_.n_embd, config_.n_embd);
  }
}

void Model::fill_rope_table(const ForwardArgs& args, Activations& act) const {
  float* row = act.rope_table.data();
  for (const BatchSegment& segment : args.segments) {
    for (uint32_t t = 0; t < segment.n_tokens; ++t, row += rope_.n_dims()) {
      rope_.fill_table(segment.first_position + t, row);
    }
  }
}

bool Model::forward(const ForwardArgs& args, Activations& act, Workers& workers) const {
  const auto n_tokens = static_cast<uint32_t>(args.tokens.size());
  HYBRID_CHECK(uint64_t{n_tokens} * config_.n_embd <= act.hidden.size());
  uint64_t n_in_segments = 0;
  for (const BatchSegment& segment : args.segments) n_in_segments += segment.n_tokens;
  HYBRID_CHECK(n_in_segments == n_tokens);
  embed(args, act);
  fill_rope_table(args, act);

  StepContext step{config_, act, workers, args.segments, n_tokens};
  step.choice_offset = args.choice_offset;
  step.replay = args.replay;
  step.record = args.record;
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    if (args.stop != nullptr && args.stop->load(std::memory_order_relaxed)) return false;
    decoder_layer(weights_.layers[layer], layer, step);
  }

  if (args.logit_tokens.empty()) return true;
  for (size_t i = 0; i < args.logit_tokens.size(); ++i) {
    HYBRID_CHECK(args.logit_tokens[i] < n_tokens && args.logit_tokens[i] >= i);
    rms_norm(act.hidden.data() + uint64_t{args.logit_tokens[i]} * config_.n_embd,
             weights_.output_norm, config_.rms_epsilon, act.normed.data() + i * config_.n_embd);
  }
  act.input.set(act.normed.data(), args.logit_tokens.size(), config_.n_embd, Precision::exact);
  matmul(weights_.output, act.input, args.logits, workers);
  return true;
}

}  // namespace hybrid
