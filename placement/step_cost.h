#pragma once
// How long a step takes: a decoded token by the bytes it reads and the transfers it needs, a
// micro-batch also by its products; where a device's rates were measured, by these.
//
// A layer reads its attention's pieces one after the other. Its feed-forward net runs on all
// devices that hold a part of it at the same time: the slowest counts. The hidden state goes to
// each device but the layer's home and back, and from home to home.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "placement/placement_model.h"

namespace hybrid {

/// A step through all layers.
struct StepSize {
  uint32_t n_tokens = 1;
  uint64_t n_past = 0;      // cached positions before them
  bool with_logits = true;  // of the last token
};

class StepCost {
 public:
  StepCost(const PlacementModel& model, const std::vector<PlacementDevice>& devices);

  /// Seconds of layer `layer` (n_layers: the output) with its hidden state on device `home`;
  /// device_of(piece) gives the device of each of its pieces.
  template <class DeviceOf>
  double layer_seconds(uint32_t layer, uint32_t home, const DeviceOf& device_of,
                       const StepSize& step = {}) const;

  /// Of moving the hidden states of n_tokens.
  double hop_seconds(uint32_t from, uint32_t to, uint32_t n_tokens = 1) const;

  /// Seconds of a step: all layers, and the hidden state's way through their homes from the CPU
  /// and back to it. One token: what it reads. More: of each piece the longer of computing it and
  /// of reading what of it they need; infinite where a device's flop_rate is needed and not known.
  double step_seconds(const Placement& placement, const StepSize& step) const;

  const std::vector<uint32_t>& pieces_of(uint32_t layer) const { return pieces_[layer]; }
  double piece_seconds(const PlacementPiece& piece, const PlacementDevice& device,
                       const StepSize& step) const;

 private:
  /// Of reading what of the piece and its cache a step needs.
  double read_bytes(const PlacementPiece& piece, const StepSize& step) const;
  /// Nothing where the device's table lacks what it takes.
  std::optional<double> measured_seconds(const PlacementPiece& piece, const PlacementDevice& device,
                                         const StepSize& step) const;

  const PlacementModel& model_;
  const std::vector<PlacementDevice>& devices_;
  std::vector<std::vector<uint32_t>> pieces_;  // [n_layers + 1]: looked up again and again
};

template <class DeviceOf>
double StepCost::layer_seconds(uint32_t layer, uint32_t home, const DeviceOf& device_of,
                               const StepSize& step) const {
  const size_t n = devices_.size();
  double before = 0;  // attention, one piece after the other
  std::vector<double> together(n);
  std::vector<uint32_t> visits(n);  // 1: for attention, 2: for the net
  for (const uint32_t i : pieces_[layer]) {
    const PlacementPiece& piece = model_.pieces[i];
    const uint32_t device = device_of(i);
    const bool is_attention = model_.units[piece.unit].kind == UnitKind::attention;
    (is_attention ? before : together[device]) += piece_seconds(piece, devices_[device], step);
    visits[device] |= is_attention ? 1 : 2;
  }
  double slowest = 0, hops = 0;
  for (uint32_t d = 0; d < n; ++d) {
    slowest = std::max(slowest, together[d]);
    const double visit = hop_seconds(home, d, step.n_tokens) + hop_seconds(d, home, step.n_tokens);
    hops += visit * ((visits[d] & 1) + (visits[d] >> 1));
  }
  return before + slowest + hops;
}

}  // namespace hybrid
