#pragma once
// One decoder layer on a micro-batch, on the processors that its weights are on.

#include "runtime/lanes.h"
#include "runtime/model_placement.h"

namespace hybrid {

/// What all layers of a step share.
struct StepContext {
  const ModelConfig& config;
  Lanes& lanes;
  MicroBatch batch;  // as the lanes have begun it; segments are not looked at
  uint32_t at = 0;   // the processor that holds the hidden rows
};

/// The hidden rows of the lane step.at are the layer's input; its output is in those of the layer's
/// home, which is step.at afterwards.
void decoder_layer(const LayerWeights& w, const LayerPlacement& place, uint32_t layer,
                   StepContext& step);

}  // namespace hybrid
