#include "runtime/placed_parts.h"

#include <algorithm>
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

std::string name_of_tensor(const PlacementInput& input, uint32_t tensor) {
  return printable(input.inventory[tensor].tensor->info.name);
}

std::string name_of_piece(const PlacementInput& input, uint32_t piece) {
  const std::string name = name_of_tensor(input, input.model.pieces[piece].tensor);
  const auto& experts = input.model.pieces[piece].experts;
  return experts ? fmt::format("experts {}-{} of {}", experts->first, experts->last, name) : name;
}

/// Which experts of each routed tensor lie where; a layer's tensors have to agree.
class SplitExperts {
 public:
  SplitExperts(const PlacementInput& input, const Placement& placement)
      : input_(input), placement_(placement) {}

  /// Pieces of a tensor come in the order of their experts.
  void add(uint32_t index) {
    const PlacementPiece& piece = input_.model.pieces[index];
    const uint32_t n_all = input_.inventory[piece.tensor].n_experts;
    const ExpertRange range = piece.experts.value_or(ExpertRange{0, n_all - 1});
    const uint32_t device = placement_.device_of[index], n = range.last - range.first + 1;
    std::vector<PlacedExperts>& parts = units_[piece.unit][piece.tensor];
    if (!parts.empty() && parts.back().processor == device) {
      parts.back().n += n;
    } else {
      parts.push_back({device, range.first, n});
    }
  }

  void place(uint32_t unit, LayerPlacement& layer, std::string& reason) const {
    const auto& tensors = units_.at(unit);
    const auto& [tensor, parts] = *tensors.begin();
    for (const auto& [other, its_parts] : tensors) {
      if (its_parts == parts || !reason.empty()) continue;
      reason = fmt::format(
          "this version cannot run it: {} and {} would lie on different devices, or other experts "
          "of them; gate, up and down of an expert are kept together",
          name_of_tensor(input_, tensor), name_of_tensor(input_, other));
    }
    if (parts.size() == 1) {
      layer.routed = parts.front().processor;
      return;
    }
    layer.split = parts;
    for (const PlacedExperts& part : parts) {
      const auto same = std::ranges::count(parts, part.processor, &PlacedExperts::processor);
      if (part.processor == 0 || same == 1 || !reason.empty()) continue;
      reason = fmt::format(
          "this version cannot run it: device {} would have {} ranges of the experts of {}; give a "
          "device one range of them",
          part.processor - 1, same, name_of_tensor(input_, tensor));
    }
  }

 private:
  const PlacementInput& input_;
  const Placement& placement_;
  std::map<uint32_t, std::map<uint32_t, std::vector<PlacedExperts>>> units_;  // by tensor
};

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
  SplitExperts split(input, placement);
  reason.clear();
  for (uint32_t i = 0; i < model.pieces.size(); ++i) {
    const uint32_t unit = model.pieces[i].unit;
    const auto [at, is_new] = units.emplace(unit, Decided{placement.device_of[i], i});
    if (model.units[unit].kind == UnitKind::routed) {
      split.add(i);
    } else if (!is_new && at->second.device != placement.device_of[i] && reason.empty()) {
      reason = fmt::format(
          "this version cannot run it: {} and {} would lie on different devices; attention and a "
          "net of a layer are each kept whole",
          name_of_piece(input, at->second.piece), name_of_piece(input, i));
    }
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
        split.place(unit, where.layers[layer], reason);
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
  const auto is_moe = [&](uint32_t i) { return i >= n_dense_lead; };
  add("routed experts", [&](uint32_t i) {
    return is_moe(i) && where.layers[i].split.empty() && where.layers[i].routed == processor;
  });
  add("some routed experts", [&](uint32_t i) {
    return is_moe(i) && !where.layers[i].split.empty() && where.layers[i].has_routed(processor);
  });
  if (where.embedding == processor) parts.emplace_back("embedding");
  if (where.output == processor) parts.emplace_back("output");
  return parts.empty() ? "nothing" : join(parts, "; ");
}

}  // namespace hybrid
