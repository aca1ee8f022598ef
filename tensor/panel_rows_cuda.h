#pragma once
// Rows of a matrix of panels as floats on a device: the embedding of tokens.

#include "tensor/device_panels.h"
#include "tensor/row_ops_cuda.h"

namespace hybrid {

/// y[t] = row ids[t] of w. ids: [n_ids], each below n_rows.
CudaStatus panel_rows_cuda(const DevicePanels& w, const int32_t* ids, uint32_t n_ids,
                           DeviceRows<float> y, CudaStream stream);

}  // namespace hybrid
