#include "runtime/model.h"

#include <algorithm>
#include <optional>
#include <unordered_set>
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
  split_experts(weights_, placement_);
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
  std::vector<Weight*> all;
  for (const Weight* w : weights_to_pack(kept)) all.push_back(const_cast<Weight*>(w));
  const bool is_whole = all.size() == packable_weights(weights_).size();
  packed_.load(file_, all, is_whole, workers, progress, config_.notes);
}

std::vector<const Weight*> Model::weights_to_pack(const TensorSet& kept) const {
  std::vector<const Weight*> all = packable_weights(weights_, kept);
  const std::unordered_set<const Weight*> elsewhere = weights_on_devices(weights_, placement_);
  std::erase_if(all, [&](const Weight* w) { return elsewhere.contains(w); });
  return all;
}

std::filesystem::path Model::write_cache(Workers& workers, const LoadProgress& progress) {
  PanelCacheWriter writer(panel_cache_paths(file_.parts().front().path), file_,
                          packable_weights(std::as_const(weights_)));
  pack(workers, progress);
  writer.write(packed_.memory(), workers, progress);
  return writer.path();
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

/// A micro-batch between its first layer and its last.
struct Model::InFlight {
  uint32_t index = 0;  // of the batches
  uint32_t slot = 0;
  uint32_t layer = 0;
  std::optional<StepContext> step = {};
};

StepContext Model::begin_batch(const ForwardArgs& args, uint32_t slot, size_t n_batches,
                               Lanes& lanes) const {
  const MicroBatch batch{.n_tokens = static_cast<uint32_t>(args.tokens.size()),
                         .segments = {},
                         .choice_offset = args.choice_offset,
                         .replay = args.replay,
                         .record = args.record};
  uint64_t n_in_segments = 0;
  for (const BatchSegment& segment : args.segments) n_in_segments += segment.n_tokens;
  HYBRID_CHECK(n_in_segments == batch.n_tokens);
  lanes.begin(slot, batch, args.segments);
  const bool is_alone = std::min<size_t>(n_batches, lanes.n_slots()) == 1;
  StepContext step{config_, lanes, batch, is_alone, placement_.embedding};
  const Lane& lane = lanes[placement_.embedding];
  lane.ops->embed(weights_.token_embd, args.tokens, lane.act.hidden);
  begin_layer(weights_.layers[0], placement_.layers[0], 0, step);
  return step;
}

/// Where logits of all batches are written: to their places, or, by devices, to memory that these
/// can reach.
class Model::LogitRows {
 public:
  LogitRows(std::span<const ForwardArgs> batches, uint64_t n_vocab, bool on_host, Lanes& lanes)
      : batches_(batches), n_vocab_(n_vocab), on_host_(on_host) {
    uint64_t n_all = 0;
    for (const ForwardArgs& args : batches) n_all += n_of(args);
    if (!on_host && n_all > 0) reachable_ = lanes.pinned_output(n_all);
  }

  float* of(uint32_t index) const {
    if (on_host_) return batches_[index].logits;
    float* row = reachable_;
    for (uint32_t i = 0; i < index; ++i) row += n_of(batches_[i]);
    return row;
  }

  /// Of the first n batches, whose devices are done.
  void copy_out(uint32_t n) const {
    for (uint32_t i = 0; i < n && !on_host_; ++i) {
      std::copy_n(of(i), n_of(batches_[i]), batches_[i].logits);
    }
  }

 private:
  uint64_t n_of(const ForwardArgs& args) const { return args.logit_tokens.size() * n_vocab_; }

  std::span<const ForwardArgs> batches_;
  uint64_t n_vocab_;
  bool on_host_;
  float* reachable_ = nullptr;
};

uint32_t Model::forward(std::span<const ForwardArgs> batches, Lanes& lanes) const {
  const LogitRows logits(batches, config_.n_vocab, placement_.output == Lanes::kHost, lanes);
  const auto n_batches = static_cast<uint32_t>(batches.size());
  uint32_t next = 0, n_done = 0;
  std::vector<InFlight> in_flight;
  for (; next < std::min(n_batches, lanes.n_slots()); ++next) {
    in_flight.push_back({next, next, 0, begin_batch(batches[next], next, n_batches, lanes)});
  }
  bool is_stopped = false;
  while (n_done < n_batches && !is_stopped) {
    // One after the other a layer on; who is through makes room for the next.
    for (InFlight& b : in_flight) {
      if (b.layer == config_.n_layers) continue;
      is_stopped = std::ranges::any_of(batches, [](const ForwardArgs& args) {
        return args.stop != nullptr && args.stop->load(std::memory_order_relaxed);
      });
      if (is_stopped) break;
      lanes.select(b.slot);
      end_layer(weights_.layers[b.layer], placement_.layers[b.layer], b.layer, *b.step);
      if (++b.layer < config_.n_layers) {
        begin_layer(weights_.layers[b.layer], placement_.layers[b.layer], b.layer, *b.step);
        continue;
      }
      if (!batches[b.index].logit_tokens.empty()) {
        compute_logits(batches[b.index], *b.step, logits.of(b.index));
      }
      ++n_done;
      if (next == n_batches) continue;
      lanes.vacate(b.slot);
      b.step.emplace(begin_batch(batches[next], b.slot, batches.size(), lanes));
      b.index = next++;
      b.layer = 0;
    }
  }
  lanes.finish();
  logits.copy_out(n_done);
  return n_done;
}

}  // namespace hybrid
