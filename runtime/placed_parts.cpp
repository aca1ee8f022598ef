#include "runtime/placed_parts.h"

#include <map>
#include <tuple>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

/// A piece that decided where its unit is.
struct Decided {
  uint32_t device = 0;
  uint32_t piece = 0;
};

std::string name_of_piece(const PlacementInput& input, uint32_t piece) {
  const std::string name =
      printable(input.inventory[input.model.pieces[piece].tensor].tensor->info.name);
  const auto& experts = input.model.pieces[piece].experts;
  return experts ? fmt::format("experts {}-{} of {}", experts->first, experts->last, name) : name;
}

/// "0-3, 5" of the layers for which is_in(layer); "" where there are none.
template <class IsIn>
std::string layer_ranges(uint32_t n_layers, const IsIn& is_in) {
  std::vector<std::string> ranges;
  for (uint32_t first = 0; first < n_layers; ++first) {
    if (!is_in(first)) continue;
    uint32_t last = first;
    while (last + 1 < n_layers && is_in(last + 1)) ++last;
    ranges.push_back(first == last ? std::to_string(first) : fmt::format("{}-{}", first, last));
    first = last;
  }
  return join(ranges, ", ");
}

}  // namespace

ModelPlacement model_placement(const PlacementInput& input, const Placement& placement,
                               uint32_t n_devices, std::string& reason) {
  const PlacementModel& model = input.model;
  std::map<uint32_t, Decided> units;
  reason.clear();
  for (uint32_t i = 0; i < model.pieces.size(); ++i) {
    const auto [at, is_new] =
        units.emplace(model.pieces[i].unit, Decided{placement.device_of[i], i});
    if (is_new || at->second.device == placement.device_of[i] || !reason.empty()) continue;
    reason = fmt::format(
        "this version cannot run it: {} and {} would lie on different devices; attention, a net "
        "and the routed experts of a layer are each kept whole",
        name_of_piece(input, at->second.piece), name_of_piece(input, i));
  }
  ModelPlacement where = ModelPlacement::on_cpu(model.n_layers);
  where.n_processors = n_devices;
  for (const auto& [unit, decided] : units) {
    const auto& [kind, layer] = model.units[unit];
    switch (kind) {
      case UnitKind::embedding:
        where.embedding = decided.device;
        break;
      case UnitKind::attention:
        where.layers[layer].home = decided.device;
        break;
      case UnitKind::routed:
        where.layers[layer].routed = decided.device;
        break;
      case UnitKind::output:
        where.output = decided.device;
        break;
      default:
        where.layers[layer].net = decided.device;
    }
  }
  where.number_cache_layers();
  return where;
}

std::string parts_text(const ModelPlacement& where, uint32_t processor, uint32_t n_dense_lead,
                       bool has_shared) {
  const auto n_layers = static_cast<uint32_t>(where.layers.size());
  std::vector<std::string> parts;
  const auto add = [&](const char* what, const auto& is_in) {
    const std::string layers = layer_ranges(n_layers, is_in);
    if (!layers.empty()) parts.push_back(fmt::format("{} of layers {}", what, layers));
  };
  add("attention", [&](uint32_t i) { return where.layers[i].home == processor; });
  add("dense nets",
      [&](uint32_t i) { return i < n_dense_lead && where.layers[i].net == processor; });
  add("shared experts", [&](uint32_t i) {
    return has_shared && i >= n_dense_lead && where.layers[i].net == processor;
  });
  add("routed experts",
      [&](uint32_t i) { return i >= n_dense_lead && where.layers[i].routed == processor; });
  if (where.embedding == processor) parts.emplace_back("embedding");
  if (where.output == processor) parts.emplace_back("output");
  return parts.empty() ? "nothing" : join(parts, "; ");
}

}  // namespace hybrid
