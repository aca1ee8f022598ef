#include "placement/lint.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "placement/step_cost.h"

namespace hybrid {
namespace {

std::string text_of_rule(const PlacementRule& rule) {
  return fmt::format("rule {} ({})", rule.text(), rule.origin);
}

std::string tensors_text(uint32_t n) { return fmt::format("{} tensor{}", n, n == 1 ? "" : "s"); }

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
    return text_of(in_.devices[in_.placement.device_of[piece]].name);
  }

  void check_rules() {
    for (uint32_t r = 0; r < in_.rules.size(); ++r) {
      if (in_.n_matched[r] == 0) {
        add("{} matches no tensor; names are like blk.3.ffn_up_exps.weight, `inspect` lists them",
            text_of_rule(in_.rules[r]));
      } else if (in_.n_decided[r] == 0) {
        add("{} decides nothing: rules before it take all {} that it matches; put it before them",
            text_of_rule(in_.rules[r]), tensors_text(in_.n_matched[r]));
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

  const LintInput& in_;
  std::vector<std::string> findings_;
};

}  // namespace

std::vector<std::string> lint_placement(const LintInput& in) { return Linter(in).run(); }

}  // namespace hybrid
