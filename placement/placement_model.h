#pragma once
// A model and a machine as placement sees them: bytes and rates, no names of files.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "placement/device_name.h"
#include "placement/rates.h"
#include "placement/rules.h"

namespace hybrid {

/// What is placed as a whole where no rule says otherwise.
enum class UnitKind {
  embedding,  // stays on the CPU: a row of it is read
  attention,  // of a layer, with its cache, its norms and its router
  dense,
  shared,
  routed,  // gate, up and down of a layer's routed experts
  output,
};

/// What measures its products.
inline RateOp op_of(UnitKind kind) {
  const bool is_net =
      kind == UnitKind::dense || kind == UnitKind::shared || kind == UnitKind::routed;
  return is_net ? RateOp::experts : RateOp::product;
}

struct PlacementUnit {
  UnitKind kind = UnitKind::attention;
  uint32_t layer = 0;  // embedding: 0; output: n_layers
};

/// A tensor, or some experts of it.
struct PlacementPiece {
  uint32_t tensor = 0;  // of the inventory
  std::optional<ExpertRange> experts = {};
  uint32_t unit = 0;
  uint64_t cpu_bytes = 0;          // in the layout that the CPU's kernels read
  uint64_t accelerator_bytes = 0;  // in a GPU's memory, with what is made of it there
  uint64_t panel_bytes = 0;        // in panels: what a step that needs all of it reads
  uint64_t token_bytes = 0;        // of panel_bytes, that a decoded token reads
  double token_flop = 0;           // a token's multiplications and additions with it
  uint64_t cache_bytes = 0;        // of the context, where the layer's cache lies with this piece
  uint64_t cache_row_bytes = 0;    // of it, for each position
  DType type = DType::f32;         // for rates that were measured
  bool packed = true;              // on the CPU: its products read panels
  bool in_attention = false;       // its products are among AttentionWork's
  bool on_disk = false;            // a rule leaves it in the mapped file; the CPU multiplies
};

struct PlacementModel {
  uint32_t n_layers = 0;
  std::vector<PlacementUnit> units;
  std::vector<PlacementPiece> pieces;
  uint32_t n_used = 0;           // routed experts of a token
  uint64_t hidden_bytes = 0;     // of a token: what goes from device to device
  AttentionWork attention = {};  // of a layer, where its cache lies; without heads: not counted
};

struct DeviceSpeed {
  double read_rate = 0;     // bytes per second of weights and cache, in decode
  double link_rate = 0;     // bytes per second to and from an accelerator
  double flop_rate = 0;     // of products of many tokens, per second; 0: unknown
  double hop_seconds = 0;   // of a transfer to or from it, whatever its size
  double disk_rate = 0;     // of the CPU: bytes per second of pieces that are on_disk
  double meet_seconds = 0;  // of the CPU, where read_rate is of several nodes that share each
                            // matrix: until all have what each computed of it
  RateTable rates = {};     // where they were measured: instead of read_rate and flop_rate
};

struct PlacementDevice {
  DeviceName name = {};
  uint64_t budget_bytes = 0;
  uint64_t fixed_bytes = 0;  // taken beside weights and cache; by an accelerator once it is used
  DeviceSpeed speed = {};
  std::vector<DType> types = {};  // that it has kernels for; empty: all

  bool has_kernel(DType type) const {
    return types.empty() || std::find(types.begin(), types.end(), type) != types.end();
  }
};

/// Device 0 is the CPU, accelerators follow in the order in which layers fill them.
struct Placement {
  std::vector<uint32_t> home;       // [n_layers + 1]: where a layer's hidden state is; the output's
  std::vector<uint32_t> device_of;  // [pieces]
};

/// What rules decided; the pieces without stay free.
using FixedPieces = std::vector<std::optional<uint32_t>>;  // [pieces]: index of a device

}  // namespace hybrid
