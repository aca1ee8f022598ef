#include "placement/lane_model.h"

#include "base/error.h"

namespace hybrid {
namespace {

/// The seconds of a layer's parts on each device, for one size of step.
struct LayerSeconds {
  double attention = 0;  // at home
  std::vector<double> net, routed;
  std::vector<double> routed_share;  // of what tokens read of the routed experts
  bool is_split = false;             // these lie on several devices
};

/// One micro-batch on its way.
struct Batch {
  StepSize size;
  uint32_t layer = 0;
  uint32_t at = 0;            // the device that has its hidden rows
  std::vector<double> sent;   // [devices]: when what a device last sent to the host is there
  LayerSeconds seconds = {};  // of the layer that it is in
};

class Player {
 public:
  Player(const PlacementModel& model, const std::vector<PlacementDevice>& devices,
         const StepCost& cost, const Placement& placement, std::span<const StepSize> sizes)
      : model_(model),
        devices_(devices),
        cost_(cost),
        placement_(placement),
        clock_(devices.size()),
        times_{0, std::vector<double>(devices.size()), std::vector<double>(devices.size())} {
    for (const StepSize& size : sizes) {
      batches_.push_back({size, 0, 0, std::vector<double>(devices.size())});
    }
  }

  LaneTimes play(uint32_t n_in_flight) {
    uint32_t next = 0;
    const auto n_batches = static_cast<uint32_t>(batches_.size());
    std::vector<Batch*> in_flight;
    for (; next < std::min(n_batches, n_in_flight); ++next) {
      in_flight.push_back(&batches_[next]);
      begin(0, batches_[next]);
    }
    for (uint32_t n_done = 0; n_done < n_batches;) {
      for (Batch*& b : in_flight) {
        if (b->layer == model_.n_layers) continue;
        end(*b);
        if (++b->layer < model_.n_layers) {
          begin(b->layer, *b);
          continue;
        }
        if (b->size.with_logits) add_output(*b);
        ++n_done;
        if (next == n_batches) continue;
        // Its rows become the next one's when devices are done with them.
        for (const double clock : clock_) clock_[kHost] = std::max(clock_[kHost], clock);
        b = &batches_[next++];
        begin(0, *b);
      }
    }
    times_.seconds = *std::ranges::max_element(clock_);
    return times_;
  }

 private:
  static constexpr uint32_t kHost = 0;

  void occupy(uint32_t device, double seconds) {
    if (device != kHost) clock_[device] = std::max(clock_[device], clock_[kHost]);
    clock_[device] += seconds;
  }
  void work(uint32_t device, double seconds) {
    occupy(device, seconds);
    times_.busy_seconds[device] += seconds;
  }
  void await(uint32_t device, const Batch& b) {
    if (device != kHost) clock_[kHost] = std::max(clock_[kHost], b.sent[device]);
  }

  void copy(uint32_t from, uint32_t to, double n_bytes, Batch& b) {
    if (from == to) return;
    for (const uint32_t d : {from, to}) {
      if (d == kHost) continue;
      const double seconds = devices_[d].speed.hop_seconds + n_bytes / devices_[d].speed.link_rate;
      occupy(d, seconds);
      times_.link_seconds[d] += seconds;
      if (d != from) continue;
      b.sent[d] = clock_[d];
      if (to != kHost) await(d, b);
    }
  }
  double row_bytes(const Batch& b) const {
    return static_cast<double>(model_.hidden_bytes) * b.size.n_tokens;
  }

  double choice_bytes(const Batch& b) const {
    return static_cast<double>(sizeof(float)) * model_.n_used * b.size.n_tokens;
  }

  LayerSeconds seconds_of(uint32_t layer, const StepSize& step) const {
    const size_t n = devices_.size();
    LayerSeconds s{0, std::vector<double>(n), std::vector<double>(n), std::vector<double>(n)};
    double read = 0;
    uint32_t n_holders = 0;
    for (const uint32_t i : cost_.pieces_of(layer)) {
      const PlacementPiece& piece = model_.pieces[i];
      const uint32_t device = placement_.device_of[i];
      const double seconds = cost_.piece_seconds(piece, devices_[device], step);
      switch (model_.units[piece.unit].kind) {
        case UnitKind::attention:
          s.attention += seconds;
          break;
        case UnitKind::routed:
          s.routed[device] += seconds;
          n_holders += s.routed_share[device] == 0 ? 1 : 0;
          s.routed_share[device] += static_cast<double>(piece.token_bytes);
          read += static_cast<double>(piece.token_bytes);
          break;
        default:
          s.net[device] += seconds;
      }
    }
    s.is_split = n_holders > 1;
    for (double& share : s.routed_share) share /= read > 0 ? read : 1;
    return s;
  }

  /// What lies on devices is queued.
  void begin(uint32_t layer, Batch& b) {
    const uint32_t home = placement_.home[layer];
    const LayerSeconds& s = b.seconds = seconds_of(layer, b.size);
    copy(b.at, home, row_bytes(b), b);
    if (home == kHost) await(b.at, b);
    b.at = home;
    work(home, s.attention);
    for (uint32_t d = 0; d < devices_.size(); ++d) {
      if (s.net[d] + s.routed[d] > 0) copy(home, d, row_bytes(b), b);
      if (s.routed[d] == 0 && !(d == kHost && s.is_split)) continue;
      for (int i = 0; i < 2; ++i) copy(home, d, choice_bytes(b), b);  // ids and weights
    }
    for (uint32_t d = 1; d < devices_.size(); ++d) {
      if (s.net[d] > 0) send_home(d, s.net[d], b);
      if (s.routed[d] == 0) continue;
      if (s.is_split) {
        work(d, s.routed[d]);
      } else {
        send_home(d, s.routed[d], b);
      }
    }
  }

  /// What lies on the host, and the sums.
  void end(Batch& b) {
    const uint32_t home = b.at;
    const LayerSeconds& s = b.seconds;
    if (s.net[kHost] > 0) {
      await(home, b);
      send_home(kHost, s.net[kHost], b);
    }
    if (s.is_split) {
      sum_split(s, b);
    } else if (s.routed[kHost] > 0) {
      await(home, b);
      send_home(kHost, s.routed[kHost], b);
    }
    if (home != kHost) return;
    for (uint32_t d = 1; d < devices_.size(); ++d) {
      if (s.net[d] + s.routed[d] > 0) await(d, b);
    }
  }

  void send_home(uint32_t device, double seconds, Batch& b) {
    work(device, seconds);
    copy(device, b.at, row_bytes(b), b);
  }

  /// Devices' rows of slots go to the host, which sums all.
  void sum_split(const LayerSeconds& s, Batch& b) {
    await(b.at, b);
    for (uint32_t d = 1; d < devices_.size(); ++d) {
      if (s.routed[d] > 0) {
        copy(d, kHost, row_bytes(b) * model_.n_used * s.routed_share[d], b);
      }
    }
    work(kHost, s.routed[kHost]);
    for (uint32_t d = 1; d < devices_.size(); ++d) {
      if (s.routed[d] > 0) await(d, b);
    }
    copy(kHost, b.at, row_bytes(b), b);
  }

  void add_output(Batch& b) {
    const uint32_t home = placement_.home[model_.n_layers];
    copy(b.at, home, row_bytes(b), b);
    if (home == kHost) await(b.at, b);
    for (const uint32_t i : cost_.pieces_of(model_.n_layers)) {
      const uint32_t device = placement_.device_of[i];
      work(device, cost_.piece_seconds(model_.pieces[i], devices_[device], b.size));
    }
  }

  const PlacementModel& model_;
  const std::vector<PlacementDevice>& devices_;
  const StepCost& cost_;
  const Placement& placement_;
  std::vector<Batch> batches_;
  std::vector<double> clock_;
  LaneTimes times_;
};

}  // namespace

double LaneTimes::hidden_fraction(uint32_t device) const {
  const double host = busy_seconds.front(), other = busy_seconds[device] + link_seconds[device];
  const double shorter = std::min(host, other);
  return shorter > 0 ? (host + other - seconds) / shorter : 0;
}

LaneModel::LaneModel(const PlacementModel& model, const std::vector<PlacementDevice>& devices)
    : model_(model), devices_(devices), cost_(model, devices) {}

LaneTimes LaneModel::pass(const Placement& placement, std::span<const StepSize> batches,
                          uint32_t n_in_flight) const {
  return Player(model_, devices_, cost_, placement, batches).play(n_in_flight);
}

LaneTimes LaneModel::token(const Placement& placement, uint64_t n_past) const {
  const StepSize one{.n_past = n_past};
  return pass(placement, std::span(&one, 1), 1);
}

LaneTimes LaneModel::prompt(const Placement& placement, uint64_t n_past, uint64_t n_tokens,
                            const PromptCut& cut) const {
  HYBRID_CHECK(cut.n_ubatch > 0 && cut.n_in_flight > 0 && cut.n_in_pass > 0);
  const size_t n_devices = devices_.size();
  LaneTimes all{0, std::vector<double>(n_devices), std::vector<double>(n_devices)};
  for (uint64_t done = 0; done < n_tokens;) {
    std::vector<StepSize> batches;
    for (uint32_t i = 0; i < cut.n_in_pass && done < n_tokens; ++i) {
      const uint64_t n = std::min<uint64_t>(cut.n_ubatch, n_tokens - done);
      batches.push_back({static_cast<uint32_t>(n), n_past + done, done + n == n_tokens});
      done += n;
    }
    const LaneTimes part = pass(placement, batches, cut.n_in_flight);
    all.seconds += part.seconds;
    for (size_t d = 0; d < n_devices; ++d) {
      all.busy_seconds[d] += part.busy_seconds[d];
      all.link_seconds[d] += part.link_seconds[d];
    }
  }
  return all;
}

}  // namespace hybrid
