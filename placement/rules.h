#pragma once
// Placement rules: a regular expression on tensors' names, and where what it matches goes. The
// first rule that matches a tensor decides about it.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "placement/device_name.h"

namespace hybrid {

/// Experts first .. last of a layer, both among them.
struct ExpertRange {
  uint32_t first = 0, last = 0;

  bool operator==(const ExpertRange&) const = default;
  /// "0-31", or "7"
  static std::optional<ExpertRange> parse(std::string_view text);
  std::string text() const;
};

struct PlacementRule {
  std::string pattern;  // PCRE2, found anywhere in a tensor's name
  DeviceName device;
  std::optional<ExpertRange> experts = {};  // of routed tensors it matches; the others go on
  std::string origin = {};                  // who says so: "-ot", "--cpu-moe", "rules[2] of x.json"

  bool operator==(const PlacementRule&) const = default;
  /// For a person: "exps=CPU", "exps=CUDA0 experts 0-31"; a long pattern is cut short.
  std::string text() const;
};

/// The rules in a value of -ot: RE=DEVICE, and more behind `,` or `;`. A rule ends where =DEVICE is
/// followed by one of these or by the end, so both, and `=`, may be part of an expression. Throws
/// Error where no rule ends, or for an expression that is none (see RuleMatcher).
std::vector<PlacementRule> parse_rules(std::string_view text, std::string_view origin);

/// Rules with their expressions compiled.
class RuleMatcher {
 public:
  /// Throws Error naming rule, place and reason for an expression that PCRE2 does not take.
  explicit RuleMatcher(std::span<const PlacementRule> rules);
  ~RuleMatcher();
  RuleMatcher(RuleMatcher&&) noexcept;

  /// All rules that match, in order: the first one decides, those behind it are shadowed there.
  /// Throws Error where an expression backtracks without end.
  std::vector<uint32_t> matches(std::string_view tensor_name) const;

 private:
  struct Compiled;
  std::vector<Compiled> compiled_;
};

/// "^blk\\.(3|4|5)\\.": the tensors of these layers.
std::string layers_pattern(const std::vector<uint32_t>& layers);

/// The routed experts' tensors of all layers, or, behind layers_pattern(), of those.
inline constexpr std::string_view kRoutedPattern = R"(\.ffn_(up|gate|gate_up|down)_exps\.)";

/// What the usual shorthands say; as rules, in their order.
struct PlacementShorthands {
  bool cpu_moe = false;                       // --cpu-moe: all routed experts on the CPU
  std::optional<uint32_t> n_cpu_moe = {};     // --n-cpu-moe N: those of the first N layers
  std::optional<uint32_t> n_gpu_layers = {};  // -ngl N: the last N layers on GPUs; output is one
  std::vector<double> tensor_split = {};      // -ts a,b,..: shares of the GPUs
};

/// gpus: those there are; -ngl fills them in this order, a row of whole layers each, by
/// tensor_split or in equal parts. Throws Error for shorthands that need a GPU where there is
/// none, or for more or other shares than GPUs.
std::vector<PlacementRule> shorthand_rules(const PlacementShorthands& shorthands, uint32_t n_layers,
                                           std::span<const DeviceName> gpus);

}  // namespace hybrid
