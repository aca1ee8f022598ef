#include "tensor/panel_f32-inl.h"

namespace hybrid {

template <>
void panel_matmul_at<SimdLevel::scalar>(const PanelArgs& args) {
  internal::panel_matmul_body<SimdLevel::scalar>(args);
}

}  // namespace hybrid
