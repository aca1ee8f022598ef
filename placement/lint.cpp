#include "placement/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "base/units.h"
#include "placement/step_cost.h"

namespace hybrid {
namespace {

std::string text_of_rule(const PlacementRule& rule) {
  return fmt::format("rule {} ({})", rule.text(), rule.origin);
}

/// "layer 3", or "58 layers, the first is 3"
std::string layers_text(const std::set<uint32_t>& layers) {
  if (layers.size() == 1) return fmt::format("layer {}", *layers.begin());
  return fmt::format("{} layers, the first is {}", layers.size(), *layers.begin());
}

class Linter {
 public:
  explicit Linter(const LintInput& in) : in_(in) {}

  std::vector<std::string> run() {
    check_rules();
    check_experts_together();
    check_small_tensors();
    check_homes();
    check_kernels();
    check_prefill();
    check_nodes();
    return std::move(findings_);
  }

 private:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    findings_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  const std::string& name(uint32_t piece) const {
    return in_.inventory[in_.model.pieces[piece].tensor].tensor->info.name;
  }
  TensorRole role(uint32_t piece) const {
    return in_.inventory[in_.model.pieces[piece].tensor].role;
  }
  const PlacementUnit& unit(uint32_t piece) const {
    return in_.model.units[in_.model.pieces[piece].unit];
  }
  std::string device(uint32_t piece) const {
    if (in_.model.pieces[piece].on_disk) return text_of({DeviceKind::disk});
    return text_of(in_.devices[in_.placement.device_of[piece]].name);
  }

  void check_rules() {
    for (uint32_t r = 0; r < in_.rules.size(); ++r) {
      if (in_.n_matched[r] == 0) {
        add("{} matches no tensor; names are like blk.3.ffn_up_exps.weight, `inspect` lists them",
            text_of_rule(in_.rules[r]));
      } else if (in_.n_decided[r] == 0) {
        add("{} decides nothing: rules before it take all {} that it matches; put it before them",
            text_of_rule(in_.rules[r]), plural(in_.n_matched[r], "tensor"));
      }
    }
  }

  /// Gate and up are multiplied element by element: apart, one half of it is sent across.
  void check_experts_together() {
    std::map<std::string, std::set<uint32_t>> found;  // text: layers
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, uint32_t> gates;
    const auto key = [&](uint32_t i) {
      const auto experts = in_.model.pieces[i].experts.value_or(ExpertRange{0, UINT32_MAX});
      return std::tuple(unit(i).layer, experts.first, experts.last);
    };
    for (uint32_t i = 0; i < in_.model.pieces.size(); ++i) {
      if (role(i) == TensorRole::routed_gate) gates[key(i)] = i;
    }
    for (uint32_t i = 0; i < in_.model.pieces.size(); ++i) {
      if (role(i) != TensorRole::routed_up || name(i).find("gate_up") != std::string::npos)
        continue;
      const auto gate = gates.find(key(i));
      if (gate != gates.end() && device(gate->second) == device(i)) continue;
      const std::string where =
          gate == gates.end() ? "other experts than the gate"
                              : fmt::format("{}, its gate on {}", device(i), device(gate->second));
      found[where].insert(unit(i).layer);
    }
    for (const auto& [where, layers] : found) {
      add("the up-projection of routed experts is on {} ({}): a rule on ffn_(gate|up)_exps keeps "
          "both together",
          where, layers_text(layers));
    }
  }

  /// Norms and routers away from where their layer is computed cost a transfer for a few bytes.
  void check_small_tensors() {
    std::map<std::string, std::set<uint32_t>> found;
    for (uint32_t i = 0; i < in_.model.pieces.size(); ++i) {
      if (role(i) != TensorRole::norm && role(i) != TensorRole::router) continue;
      const uint32_t home = in_.placement.home[unit(i).layer];
      if (in_.placement.device_of[i] == home) continue;
      const std::string stem = name(i).substr(name(i).find('.', 4) + 1);
      found[fmt::format("{} is on {}, its layer on {}", stem, device(i),
                        text_of(in_.devices[home].name))]
          .insert(unit(i).layer);
    }
    for (const auto& [text, layers] : found) {
      add("{} ({}): a small tensor is read across; let its rule leave it out", text,
          layers_text(layers));
    }
  }

  /// The hidden state need not go to a device more than once.
  void check_homes() {
    const std::vector<uint32_t>& home = in_.placement.home;
    uint32_t n_changes = home.front() != 0 ? 1 : 0;
    std::set<uint32_t> devices{0};
    for (size_t i = 0; i < home.size(); ++i) {
      if (i > 0) n_changes += home[i] != home[i - 1];
      devices.insert(home[i]);
    }
    n_changes += home.back() != 0;
    const auto n_needed = static_cast<uint32_t>(devices.size() > 1 ? devices.size() : 0);
    if (n_changes > n_needed) {
      add("the hidden state changes its device {} times in a token, {} would do: give each device "
          "layers that follow each other",
          n_changes, n_needed);
    }
  }

  /// A rule may put a tensor where nothing can multiply with it.
  void check_kernels() {
    std::map<std::tuple<uint32_t, uint32_t, DType>, std::vector<uint32_t>> found;  // pieces
    for (uint32_t i = 0; i < in_.model.pieces.size(); ++i) {
      const uint32_t d = in_.placement.device_of[i];
      const PlacementPiece& piece = in_.model.pieces[i];
      if (!in_.rule_of[i] || in_.devices[d].has_kernel(piece.type)) continue;
      found[{*in_.rule_of[i], d, piece.type}].push_back(i);
    }
    for (const auto& [key, pieces] : found) {
      const auto& [rule, d, type] = key;
      add("{} puts {}{} on {}, which has no kernel for {}: leave {} to the CPU, or take a file "
          "with "
          "another type there",
          text_of_rule(in_.rules[rule]), name(pieces.front()),
          pieces.size() > 1 ? fmt::format(" and {} more", pieces.size() - 1) : "",
          text_of(in_.devices[d].name), name_of(type), pieces.size() > 1 ? "them" : "it");
    }
  }

  /// Rules on routed experts that make a micro-batch take a tenth longer, or more.
  void check_prefill() {
    const StepSize step{.n_tokens = in_.n_ubatch};
    const double with = StepCost(in_.model, in_.devices).step_seconds(in_.placement, step);
    if (!std::isfinite(with)) return;
    for (uint32_t r = 0; r < in_.rules.size(); ++r) {
      FixedPieces fixed = in_.fixed;
      PlacementModel model = in_.model;
      std::optional<uint32_t> first;
      for (uint32_t i = 0; i < fixed.size(); ++i) {
        if (in_.rule_of[i] != r || unit(i).kind != UnitKind::routed) continue;
        if (!first) first = i;
        fixed[i].reset();
        PlacementPiece& piece = model.pieces[i];
        if (piece.on_disk) piece.cpu_bytes = piece.panel_bytes, piece.packed = true;
        piece.on_disk = false;
      }
      if (!first) continue;
      const FitResult fit = fit_placement(model, in_.devices, fixed);
      const double without = StepCost(model, in_.devices).step_seconds(fit.placement, step);
      if (!fit.fits() || without * 1.1 > with) continue;
      add("{} puts {} on {}, where its experts slow prefill: {:.0f} t/s, {:.0f} without the rule, "
          "which puts it on {}; leave these experts out of it",
          text_of_rule(in_.rules[r]), name(*first), device(*first), in_.n_ubatch / with,
          in_.n_ubatch / without, text_of(in_.devices[fit.placement.device_of[*first]].name));
    }
  }

  /// What the CPU holds is spread over its nodes in equal shares: each has threads that read.
  void check_nodes() {
    const size_t n = in_.node_bytes.size();
    if (n < 2) return;
    const uint64_t share = in_.cpu_bytes / n;
    for (size_t node = 0; node < n; ++node) {
      if (share <= in_.node_bytes[node]) continue;
      add("NODE{} is over-filled: its share of the CPU's {}, read by the threads of {} nodes, is "
          "{}, "
          "and it has {}; put {} less on the CPU (a rule RE=CUDA0 or RE=DISK), or level the nodes' "
          "memory{}",
          node, format_bytes(in_.cpu_bytes), n, format_bytes(share),
          format_bytes(in_.node_bytes[node]), format_bytes((share - in_.node_bytes[node]) * n),
          largest_tensor_text());
    }
  }

  /// "; the largest tensor there is blk.3.ffn_down_exps.weight"
  std::string largest_tensor_text() const {
    std::optional<uint32_t> largest;
    for (uint32_t i = 0; i < in_.model.pieces.size(); ++i) {
      if (in_.placement.device_of[i] != 0) continue;
      if (!largest || in_.model.pieces[i].cpu_bytes > in_.model.pieces[*largest].cpu_bytes) {
        largest = i;
      }
    }
    if (!largest) return "";
    std::string text = "; the largest tensor there is " + name(*largest);
    if (in_.rule_of[*largest]) text += ", by " + text_of_rule(in_.rules[*in_.rule_of[*largest]]);
    return text;
  }

  const LintInput& in_;
  std::vector<std::string> findings_;
};

}  // namespace

std::vector<std::string> lint_placement(const LintInput& in) { return Linter(in).run(); }

}  // namespace hybrid
