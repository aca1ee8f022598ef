#pragma once
// One decoder layer on a micro-batch, on the processors that its weights are on.

#include "runtime/lanes.h"
#include "runtime/model_placement.h"

namespace hybrid {

/// What all layers of a micro-batch's step share. The lanes have selected it.
struct StepContext {
  const ModelConfig& config;
  Lanes& lanes;
  MicroBatch batch;            // as the lanes have begun it; segments are not looked at
  bool is_alone = true;        // no other micro-batch is computed between the halves of a layer
  uint32_t at = Lanes::kHost;  // the processor that holds the hidden rows
};

/// The hidden rows of the lane step.at are the layer's input; its output is in those of the layer's
/// home, which is step.at afterwards.
void decoder_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
                   StepContext& step);

// The same in two halves, so that devices have work while the host computes:
/// attention, the router, and what of the feed-forward part lies on devices;
void begin_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
                 StepContext& step);
/// what of it lies on the host, and the sums.
void end_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
               StepContext& step);

}  // namespace hybrid
