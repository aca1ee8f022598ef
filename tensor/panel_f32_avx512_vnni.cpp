#include "tensor/panel_f32-inl.h"

namespace hybrid {

template <>
void panel_matmul_at<SimdLevel::avx512_vnni>(const PanelArgs& args) {
  internal::panel_matmul_body<SimdLevel::avx512_vnni>(args);
}

}  // namespace hybrid
