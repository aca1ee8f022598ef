#pragma once
// What is in a GGUF, for `hybrid-run inspect`: as text for people, as JSON for programs. Headers
// alone are read; open the file with data_required = false.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tensor/gguf_file.h"

namespace hybrid {

/// Elements of all tensors of the file.
uint64_t n_params(const GgufFile& file);
/// Bytes of all tensors of the file, without metadata and padding.
uint64_t tensor_bytes(const GgufFile& file);

/// Lines, each ended: the files, the metadata (long strings and arrays shortened), the tensors, and
/// the totals of each tensor type. Bytes from the file are escaped, so nothing reaches a terminal
/// raw.
std::string inspect_text(const GgufFile& file);

/// {files: [{path, bytes}], version, metadata: {key: value}, tensors: [{name, type, shape, bytes,
/// offset, part}], n_params, total_bytes}, numbers in base units: bytes, elements; `offset` from
/// the start of part number `part` (from 0), `shape` with the contiguous dimension first,
/// total_bytes of all files. Arrays of more than 16 elements become {type, count, first: [...]}
/// unless `full`. An f32 is given by its shortest decimal form; NaN and infinities as the strings
/// "nan", "inf", "-inf". In strings that are not valid UTF-8 each wrong byte is written as \xNN.
nlohmann::ordered_json inspect_json(const GgufFile& file, bool full = false);

}  // namespace hybrid
