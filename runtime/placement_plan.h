#pragma once
// Where everything goes on the devices of a machine: rules first, the rest filled in, with the
// bytes that each device holds and the time that a token takes.

#include <string>
#include <vector>

#include "placement/auto_fit.h"
#include "runtime/model_placement.h"
#include "runtime/placement_input.h"
#include "runtime/plan_machine.h"

namespace hybrid {

/// What each device takes beside weights and cache, once it is used.
struct FixedBytes {
  uint64_t activations = 0;  // buffers and threads, with attention's scratch
  uint64_t context = 0;      // of the GPU's driver and libraries, and a margin

  uint64_t n_bytes() const { return activations + context; }
};

struct PlacementPlan {
  RunPlan run;
  PlanMachine machine;
  std::vector<PlacementRule> rules;
  PlacementInput input = {};
  std::vector<PlacementDevice> devices = {};  // of the machine, as the fit took them
  std::vector<FixedBytes> fixed = {};         // [devices]
  FitResult fit = {};
  std::vector<DeviceLoad> loads = {};      // [devices]
  std::vector<std::string> findings = {};  // lint_placement()
  uint64_t disk_bytes = 0;                 // that rules leave in the mapped file
  bool disk_fits = false;                  // in memory, beside all else: the system keeps it there
  std::string refusal = {};                // why no run begins with these options; or ""

  ModelPlacement where = {};      // the same by parts of the model
  std::string not_possible = {};  // why no run can place its parts so; or ""
  std::string missing = {};       // the same, where this machine lacks a library for it; or ""

  /// A run would begin.
  bool fits() const { return refusal.empty() && not_possible.empty() && fit.fits(); }
};

/// Throws Error for a rule whose device the machine does not have.
PlacementPlan plan_placement(const ModelView& view, const RunSettings& settings,
                             const std::vector<PlacementRule>& rules, const PlanMachine& machine);

inline constexpr uint32_t kContextStep = 256;

/// The largest context, a multiple of kContextStep and at most what the model was trained for, with
/// which the same settings and rules fit; 0 where none does.
uint32_t largest_context(const ModelView& view, const RunSettings& settings,
                         const std::vector<PlacementRule>& rules, const PlanMachine& machine);

/// Why it does not fit, with what would help: "CUDA0: 26.1 GiB for 23.5 GiB: ...". "" where it
/// does.
std::string why_not(const ModelView& view, const PlacementPlan& plan);

/// Why a run leaves GPUs alone that nobody asked for by a name, a rule or a number; "" where it
/// uses them.
std::string why_not_used(const PlacementPlan& plan);

}  // namespace hybrid
