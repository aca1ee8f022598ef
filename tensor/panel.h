#pragma once
// Weights repacked for the fast kernels: the rows of a matrix in panels of 16, turned so that one
// 64-byte vector holds four bytes of each of 16 rows.
//
//   panel  = 16 rows, all columns; the last panel of a matrix is filled up with zero rows
//   unit   = the same few blocks of the 16 rows (PanelFormat::n_blocks each)
//   vector = dword i of the unit of row 0, of row 1, ... of row 15
//
// A row's unit is its GGUF blocks, bytes permuted so that all fields lie on dword boundaries:
//   block bytes a multiple of 4      one block as it is
//   ... of 2 (a lone f16 scale)      two blocks: [d of both] [rest of the first] [rest of the
//   second] MXFP4 (17 bytes)                 four blocks: [e of all four] [16 bytes of each] F16,
//   BF16                        32 elements, each four of them in the order 0 2 1 3 F32 32 elements
// Nothing is rounded, nothing padded but the last rows and blocks: unpack_panel() gives the file's
// bytes back. docs/kernels.md shows why one layout serves both products with one token (a vector is
// four columns of 16 rows: the operand of a byte dot product, lanes are rows) and with many (turned
// into bf16, it is half of a matrix-unit tile).

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/tensor_view.h"

namespace hybrid {

inline constexpr uint64_t kPanelRows = 16;
inline constexpr uint64_t kVectorBytes = 64;

/// How one type is packed.
struct PanelFormat {
  uint32_t n_blocks;    // GGUF blocks of a row in a unit (elements for F32, F16, BF16)
  uint32_t n_cols;      // columns of a unit
  uint32_t row_bytes;   // bytes of a row in a unit, a multiple of 4
  uint32_t unit_bytes;  // 16 * row_bytes
};
PanelFormat panel_format(DType type);

/// Bytes of a panel of n_cols columns (a multiple of the type's block size): whole units.
uint64_t panel_bytes(DType type, uint64_t n_cols);

/// A matrix in panels. Owns nothing.
struct PanelMatrix {
  DType type = DType::f32;
  uint64_t n_cols = 0;
  uint64_t n_rows = 0;
  const std::byte* data = nullptr;    // n_panels() panels, 64-byte aligned
  const int8_t* exponents = nullptr;  // [n_panels()], see pack_panel

  bool empty() const { return data == nullptr; }
  uint64_t n_panels() const { return (n_rows + kPanelRows - 1) / kPanelRows; }
  uint64_t panel_bytes() const { return hybrid::panel_bytes(type, n_cols); }
  const std::byte* panel(uint64_t i) const { return data + i * panel_bytes(); }
};

/// Packs n_rows (1 to 16) rows that follow each other without gaps, as in the file. dst: 64-byte
/// aligned, panel_bytes(). Returns the panel's exponent e: every weight times 2^e is smaller than
/// 2^15, which lets kernels scale weights in half floats (0 for BF16 and F32, which need none).
int8_t pack_panel(DType type, const std::byte* rows, uint64_t n_rows, uint64_t n_cols,
                  std::byte* dst);

/// The rows' bytes, as they were packed.
void unpack_panel(DType type, const std::byte* panel, uint64_t n_rows, uint64_t n_cols,
                  std::byte* rows);

}  // namespace hybrid
