#include "runtime/model.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace hybrid {

Model::Model(const std::filesystem::path& path, ExpertGroups groups)
    : file_(GgufFile::open(path)),
      config_(read_model_config(file_, groups)),
      placement_(ModelPlacement::on_cpu(config_.n_layers)) {
  weights_ = bind_weights(file_, config_);
  if (!weights_.unused.empty()) config_.notes.push_back(unused_note(weights_));
}

void Model::pack(Workers& workers, const LoadProgress& progress, const TensorSet& kept) {
  packed_.pack(weights_, kept, workers, progress);
}

void Model::place(ModelPlacement placement, ModelDevices devices) {
  HYBRID_CHECK(placement.n_processors == devices.size() + 1);
  placement_ = std::move(placement);
  devices_ = std::move(devices);
}

void Model::load_devices(bool pack, bool prepare_decode, const TensorSet& kept, Workers& workers,
                         const LoadProgress& progress) {
  TensorSet packed;
  if (pack) {
    for (const Weight* w : packable_weights(std::as_const(weights_), kept)) {
      packed.insert(w->source);
    }
  }
  for (uint32_t i = 0; i < devices_.size(); ++i) {
    device_weights_.emplace_back(devices_[i]->device(), weights_,
                                 DeviceWeightsArgs{.mla = config_.mla,
                                                   .placement = placement_,
                                                   .processor = i + 1,
                                                   .layout = devices_[i]->layout(),
                                                   .packed = packed,
                                                   .decode = prepare_decode,
                                                   .progress = progress},
                                 workers);
  }
}

void Model::prepare_decode(Workers& workers) {
  decode_.make(config_.mla, weights_, placement_, workers);
}

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

bool Model::run_layers(const ForwardArgs& args, StepContext& step) const {
  const Lane& lane = step.lanes[placement_.embedding];
  lane.ops->embed(weights_.token_embd, args.tokens, lane.act.hidden);
  step.at = placement_.embedding;
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    if (args.stop != nullptr && args.stop->load(std::memory_order_relaxed)) return false;
    decoder_layer(weights_.layers[layer], placement_.layers[layer], layer, step);
  }
  return true;
}

void Model::compute_logits(const ForwardArgs& args, StepContext& step) const {
  Lanes& lanes = step.lanes;
  const uint32_t at = placement_.output;
  const auto n_rows = static_cast<uint32_t>(args.logit_tokens.size());
  const uint64_t n_logits = uint64_t{n_rows} * config_.n_vocab;
  lanes.send(&Activations::hidden, config_.n_embd, step.at, at);
  lanes.arrive(step.at, at);
  const Activations& act = lanes[at].act;
  LayerOps& ops = *lanes[at].ops;
  ops.gather(act.hidden, args.logit_tokens, act.normed);
  ops.norm(act.normed, n_rows, weights_.output_norm, act.normed);
  ops.set_input(act.normed, n_rows, config_.n_embd, Precision::exact);
  float* logits = at == Lanes::kHost ? args.logits : lanes.pinned_output(n_logits);
  ops.product(weights_.output, logits);
  lanes.finish();
  if (logits != args.logits) std::copy_n(logits, n_logits, args.logits);
}

bool Model::forward(const ForwardArgs& args, Lanes& lanes) const {
  MicroBatch batch{.n_tokens = static_cast<uint32_t>(args.tokens.size()),
                   .segments = {},
                   .choice_offset = args.choice_offset,
                   .replay = args.replay,
                   .record = args.record};
  uint64_t n_in_segments = 0;
  for (const BatchSegment& segment : args.segments) n_in_segments += segment.n_tokens;
  HYBRID_CHECK(n_in_segments == batch.n_tokens);
  lanes.begin(batch, args.segments);
  StepContext step{config_, lanes, batch};
  const bool is_done = run_layers(args, step);
  if (is_done && !args.logit_tokens.empty()) {
    compute_logits(args, step);
  } else {
    lanes.finish();
  }
  return is_done;
}

}  // namespace hybrid
