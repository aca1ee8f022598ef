#pragma once
// How long a decoded token takes, by the bytes it reads and the transfers it needs.
//
// A layer reads its attention's pieces one after the other. Its feed-forward net runs on all
// devices that hold a part of it at the same time: the slowest counts. The hidden state goes to
// each device but the layer's home and back, and from home to home.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "placement/placement_model.h"

namespace hybrid {

/// Where the pieces of each layer stand among the model's: looked up again and again.
class DecodeCost {
 public:
  DecodeCost(const PlacementModel& model, const std::vector<PlacementDevice>& devices);

  /// Seconds of layer `layer` (n_layers: the output) with its hidden state on device `home`;
  /// device_of(piece) gives the device of each of its pieces.
  template <class DeviceOf>
  double layer_seconds(uint32_t layer, uint32_t home, const DeviceOf& device_of) const;

  /// Of moving the hidden state.
  double hop_seconds(uint32_t from, uint32_t to) const;

  /// Seconds of a token: all layers, and the hidden state's way through their homes from the CPU
  /// and back to it.
  double token_seconds(const Placement& placement) const;

  const std::vector<uint32_t>& pieces_of(uint32_t layer) const { return pieces_[layer]; }

 private:
  const PlacementModel& model_;
  const std::vector<PlacementDevice>& devices_;
  std::vector<std::vector<uint32_t>> pieces_;  // [n_layers + 1]
};

template <class DeviceOf>
double DecodeCost::layer_seconds(uint32_t layer, uint32_t home, const DeviceOf& device_of) const {
  const size_t n = devices_.size();
  double before = 0;  // attention, one piece after the other
  std::vector<double> together(n);
  std::vector<uint32_t> visits(n);  // 1: for attention, 2: for the net
  for (const uint32_t i : pieces_[layer]) {
    const PlacementPiece& piece = model_.pieces[i];
    const uint32_t device = device_of(i);
    const double seconds = static_cast<double>(piece.token_bytes + piece.cache_token_bytes) /
                           devices_[device].read_rate;
    const bool is_attention = model_.units[piece.unit].kind == UnitKind::attention;
    (is_attention ? before : together[device]) += seconds;
    visits[device] |= is_attention ? 1 : 2;
  }
  double slowest = 0, hops = 0;
  for (uint32_t d = 0; d < n; ++d) {
    slowest = std::max(slowest, together[d]);
    const double visit = hop_seconds(home, d) + hop_seconds(d, home);
    hops += visit * ((visits[d] & 1) + (visits[d] >> 1));
  }
  return before + slowest + hops;
}

}  // namespace hybrid
