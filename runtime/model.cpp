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

void Model::set_nodes(std::shared_ptr<const NodeUse> nodes) {
  nodes_ = std::move(nodes);
  packed_.set_nodes(nodes_ == nullptr ? nullptr : &nodes_->plan);
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

bool Model::run_layers(std::span<const ForwardArgs> batches, std::span<StepContext> steps) const {
  const auto for_batches = [&](const auto& body) {
    for (uint32_t i = 0; i < steps.size(); ++i) {
      steps[i].lanes.select(i);
      body(steps[i], batches[i]);
    }
  };
  const auto begin = [&](uint32_t layer, StepContext& step) {
    begin_layer(weights_.layers[layer], placement_.layers[layer], layer, step);
  };
  for_batches([&](StepContext& step, const ForwardArgs& args) {
    step.at = placement_.embedding;
    const Lane& lane = step.lanes[step.at];
    lane.ops->embed(weights_.token_embd, args.tokens, lane.act.hidden);
    begin(0, step);
  });
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    for (const ForwardArgs& args : batches) {
      if (args.stop != nullptr && args.stop->load(std::memory_order_relaxed)) return false;
    }
    for_batches([&](StepContext& step, const ForwardArgs&) {
      end_layer(weights_.layers[layer], placement_.layers[layer], layer, step);
      if (layer + 1 < config_.n_layers) begin(layer + 1, step);
    });
  }
  return true;
}

void Model::compute_logits(const ForwardArgs& args, StepContext& step, float* to) const {
  Lanes& lanes = step.lanes;
  const uint32_t at = placement_.output;
  const auto n_rows = static_cast<uint32_t>(args.logit_tokens.size());
  lanes.send(&Activations::hidden, config_.n_embd, step.at, at);
  lanes.arrive(step.at, at);
  const Activations& act = lanes[at].act;
  LayerOps& ops = *lanes[at].ops;
  ops.gather(act.hidden, args.logit_tokens, act.normed);
  ops.norm(act.normed, n_rows, weights_.output_norm, act.normed);
  ops.set_input(act.normed, n_rows, config_.n_embd, Precision::exact);
  ops.product(weights_.output, to);
}

void Model::compute_all_logits(std::span<const ForwardArgs> batches,
                               std::span<StepContext> steps) const {
  Lanes& lanes = steps.front().lanes;
  const bool on_host = placement_.output == Lanes::kHost;
  const auto n_of = [&](const ForwardArgs& args) {
    return args.logit_tokens.size() * config_.n_vocab;
  };
  uint64_t n_all = 0;
  for (const ForwardArgs& args : batches) n_all += n_of(args);
  // A device writes them to memory that it can reach.
  float* const reachable = on_host || n_all == 0 ? nullptr : lanes.pinned_output(n_all);
  float* to = reachable;
  for (uint32_t i = 0; i < steps.size(); ++i) {
    if (n_of(batches[i]) == 0) continue;
    lanes.select(i);
    compute_logits(batches[i], steps[i], on_host ? batches[i].logits : to);
    if (!on_host) to += n_of(batches[i]);
  }
  if (on_host) return;
  lanes.finish();
  const float* from = reachable;
  for (const ForwardArgs& args : batches) {
    std::copy_n(from, n_of(args), args.logits);
    from += n_of(args);
  }
}

std::vector<StepContext> Model::begin_steps(std::span<const ForwardArgs> batches,
                                            Lanes& lanes) const {
  std::vector<StepContext> steps;
  for (const ForwardArgs& args : batches) {
    const MicroBatch batch{.n_tokens = static_cast<uint32_t>(args.tokens.size()),
                           .segments = {},
                           .choice_offset = args.choice_offset,
                           .replay = args.replay,
                           .record = args.record};
    uint64_t n_in_segments = 0;
    for (const BatchSegment& segment : args.segments) n_in_segments += segment.n_tokens;
    HYBRID_CHECK(n_in_segments == batch.n_tokens);
    lanes.begin(static_cast<uint32_t>(steps.size()), batch, args.segments);
    steps.push_back({config_, lanes, batch, batches.size() == 1});
  }
  return steps;
}

bool Model::forward(std::span<const ForwardArgs> batches, Lanes& lanes) const {
  std::vector<StepContext> steps = begin_steps(batches, lanes);
  const bool is_done = run_layers(batches, steps);
  if (is_done) compute_all_logits(batches, steps);
  lanes.finish();
  return is_done;
}

}  // namespace hybrid
