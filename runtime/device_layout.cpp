#include "runtime/device_layout.h"

namespace hybrid {

uint64_t device_bytes(DeviceLayout layout, const PlannedTensor& t, uint64_t n_experts) {
  const auto sum = [&](std::initializer_list<uint64_t> arrays) {
    uint64_t n = 0;
    for (const uint64_t n_bytes : arrays) n += device_stack_bytes(n_experts, n_bytes / n_experts);
    return n;
  };
  if (layout == DeviceLayout::as_on_cpu) {
    return sum({t.bytes.panels, t.bytes.decode, t.bytes.floats, t.bytes.mapped});
  }
  if (t.layout == TensorLayout::floats) return sum({t.bytes.floats});
  if (t.is_up_projection) return 0;  // of what is made of it
  return sum(
      {packed_bytes(Weight{GgufFile::describe(*t.tensor)}), t.gpu_decode_bytes, t.gpu_key_bytes});
}

}  // namespace hybrid
