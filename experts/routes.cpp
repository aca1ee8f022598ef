#include "experts/routes.h"

#include "base/error.h"

namespace hybrid {

void sort_by_expert(std::span<const int32_t> ids, uint32_t n_experts, Routes& routes,
                    std::span<const ExpertRows> elsewhere) {
  routes.active.clear();
  routes.offsets.assign(n_experts + 1, 0);
  for (const int32_t id : ids) {
    HYBRID_CHECK(id >= 0 && static_cast<uint32_t>(id) < n_experts);
    if (!is_among(elsewhere, id)) ++routes.offsets[id + 1];
  }
  for (uint32_t e = 0; e < n_experts; ++e) {
    if (routes.offsets[e + 1] > 0) routes.active.push_back(e);
    routes.offsets[e + 1] += routes.offsets[e];
  }
  routes.slots.resize(routes.offsets[n_experts]);
  routes.next.assign(routes.offsets.begin(), routes.offsets.end() - 1);
  for (uint32_t slot = 0; slot < ids.size(); ++slot) {
    const int32_t id = ids[slot];
    if (!is_among(elsewhere, id)) routes.slots[routes.next[id]++] = slot;
  }
}

}  // namespace hybrid
