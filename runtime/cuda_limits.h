#pragma once
// What the CUDA kernels do not do, and what they need beside the plugin.

#include <string>

#include "runtime/model_placement.h"
#include "runtime/run_plan.h"

namespace hybrid {

/// Why a run cannot place the parts of the model so: what GPUs would have to compute and cannot, in
/// one sentence that says what to do; or "". Processors from 1 on are GPUs. The settings' context
/// is decided.
std::string cuda_refusal(const ModelView& view, const RunSettings& settings,
                         const ModelPlacement& where);

/// Why this machine's GPUs cannot do what they are to do so: a library that is not there (cuBLAS,
/// for attention of -fa 0), with the reason and what to do, in one sentence; or "".
std::string missing_cuda_library(const SequencePlan& plan, const ModelPlacement& where);

}  // namespace hybrid
