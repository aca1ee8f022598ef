#pragma once
// What the CUDA kernels do not do.

#include <string>

#include "runtime/model_placement.h"
#include "runtime/run_plan.h"

namespace hybrid {

/// Why a run cannot place the parts of the model so: what GPUs would have to compute and cannot, in
/// one sentence that says what to do; or "". Processors from 1 on are GPUs.
std::string cuda_refusal(const ModelView& view, const RunSettings& settings,
                         const ModelPlacement& where);

}  // namespace hybrid
