#include "tensor/panel_f32-inl.h"

namespace hybrid {

template <>
void panel_matmul_at<SimdLevel::avx2>(const PanelArgs& args) {
  internal::panel_matmul_body<SimdLevel::avx2>(args);
}

}  // namespace hybrid
