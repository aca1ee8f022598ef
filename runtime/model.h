#pragma once
// A loaded model: tokens in, logits out.

#include <atomic>
#include <filesystem>
#include <memory>
#include <span>

#include "numa/workers.h"
#include "runtime/decode_weights.h"
#include "runtime/device_weights.h"
#include "runtime/layer.h"
#include "runtime/model_device.h"
#include "runtime/node_use.h"
#include "runtime/packed_weights.h"
#include "runtime/tokenizer.h"

namespace hybrid {

struct ForwardArgs {
  std::span<const TokenId> tokens;         // one micro-batch, ids in [0, n_vocab)
  std::span<const BatchSegment> segments;  // whose they are, in this order
  std::span<const uint32_t> logit_tokens;  // indices of those whose logits are wanted, ascending
  float* logits = nullptr;                 // [logit_tokens.size()][n_vocab]
  uint32_t choice_offset = 0;              // of tokens[0] in the two below
  const ExpertChoice* replay = nullptr;
  ExpertChoice* record = nullptr;
  const std::atomic<bool>* stop = nullptr;  // looked at between layers
};

class Model {
 public:
  /// Opens, checks and maps the file; of the weights it reads the norms and biases. Throws Error.
  Model(const std::filesystem::path& path, ExpertGroups groups);

  const ModelConfig& config() const { return config_; }
  const GgufFile& file() const { return file_; }
  const ModelWeights& weights() const { return weights_; }

  /// Where the parts of the model are to be computed; the CPU computes all without it. Before what
  /// follows.
  void place(ModelPlacement placement, ModelDevices devices);
  /// The memory nodes that packed weights are cut over. Before what follows.
  void set_nodes(std::shared_ptr<const NodeUse> nodes);
  /// Puts the weights of all devices there, in panels and with the attention weights of single
  /// tokens as the CPU has them, or not. Throws Error.
  void load_devices(bool pack, bool prepare_decode, const TensorSet& kept, Workers& workers,
                    const LoadProgress& progress);
  /// Makes the attention weights of single tokens, see DecodeWeights. Without it single tokens take
  /// the general path, to the same result but for rounding.
  void prepare_decode(Workers& workers);
  /// Packs the weights for the fast kernels, see PackedWeights. Without it they are packed anew for
  /// each product, from the mapped file. Same results.
  /// `kept`: tensors for which that is so all the same.
  void pack(Workers& workers, const LoadProgress& progress, const TensorSet& kept = {});
  /// What load_packed() packs: of the CPU's, all that can be but `kept`.
  std::vector<const Weight*> weights_to_pack(const TensorSet& kept) const;
  /// The same from the model's cache, where there is a valid one; why a cache is not used becomes
  /// one of the config's notes.
  void load_packed(Workers& workers, const LoadProgress& progress, const TensorSet& kept = {});
  /// Packs and writes the model's cache; returns where. Throws Error.
  std::filesystem::path write_cache(Workers& workers, const LoadProgress& progress);
  bool is_packed() const { return packed_.n_bytes() > 0; }
  uint64_t packed_bytes() const { return packed_.n_bytes(); }
  NodeArena::Report packed_report() const { return packed_.report(); }
  uint64_t decode_bytes() const { return decode_.n_bytes(); }

  /// One pass over all layers for each micro-batch, as many at a time as the lanes have in flight,
  /// half a layer apart: each may follow the one before it in the same sequence. Returns how many
  /// of them, from the first on, are done: all, unless `stop` (of any) ended it early; the cache
  /// rows of the others are then undefined.
  uint32_t forward(std::span<const ForwardArgs> batches, Lanes& lanes) const;

  const ModelPlacement& placement() const { return placement_; }
  const ModelDevices& devices() const { return devices_; }

 private:
  struct InFlight;
  class LogitRows;
  /// Up to the host's part of layer 0; n_batches: of the pass.
  StepContext begin_batch(const ForwardArgs& args, uint32_t slot, size_t n_batches,
                          Lanes& lanes) const;
  /// Into `to`, in the memory that placement_.output may write.
  void compute_logits(const ForwardArgs& args, StepContext& step, float* to) const;

  GgufFile file_;
  ModelConfig config_;
  ModelWeights weights_;
  std::shared_ptr<const NodeUse> nodes_;
  PackedWeights packed_;
  DecodeWeights decode_;
  ModelDevices devices_;  // given back after
  std::vector<DeviceWeights> device_weights_;
  ModelPlacement placement_;
};

}  // namespace hybrid
