#include "tests/support/gguf_builder.h"

#include <limits>
#include <utility>

namespace hybrid::test {
namespace {

void pad(std::string& bytes, uint64_t alignment) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
}

uint64_t data_bytes(DType type, const std::vector<uint64_t>& dims) {
  uint64_t n_rows = 1;
  for (size_t d = 1; d < dims.size(); ++d) n_rows *= dims[d];
  return row_bytes(type, dims.at(0)) * n_rows;
}

}  // namespace

GgufBuilder& GgufBuilder::version(uint32_t value) {
  version_ = value;
  return *this;
}

GgufBuilder& GgufBuilder::alignment(uint32_t value) {
  alignment_ = value;
  return add("general.alignment", value);
}

std::string GgufBuilder::array_head(GgufType element, uint64_t n) {
  return gguf_bytes(static_cast<uint32_t>(element)) + gguf_bytes(n);
}

GgufBuilder& GgufBuilder::add_raw(std::string_view key, uint32_t type,
                                  std::string_view value_bytes) {
  entries_.push_back(gguf_bytes(key) + gguf_bytes(type) + std::string(value_bytes));
  return *this;
}

GgufBuilder& GgufBuilder::add_tensor(std::string_view name, DType type, std::vector<uint64_t> dims,
                                     std::string data) {
  if (data.empty()) data.resize(data_bytes(type, dims), '\0');
  return add_tensor(Tensor{std::string(name), static_cast<uint32_t>(type), std::move(dims),
                           std::move(data), std::nullopt});
}

GgufBuilder& GgufBuilder::add_tensor(Tensor tensor) {
  tensors_.push_back(std::move(tensor));
  return *this;
}

GgufBuilder& GgufBuilder::claim_tensors(uint64_t n) {
  claimed_tensors_ = n;
  return *this;
}

GgufBuilder& GgufBuilder::claim_entries(uint64_t n) {
  claimed_entries_ = n;
  return *this;
}

GgufBuilder& GgufBuilder::add_split_keys(uint16_t part, uint16_t n_parts, int32_t n_tensors) {
  add("split.no", part).add("split.count", n_parts);
  return add("split.tensors.count", n_tensors);
}

std::string GgufBuilder::header() const {
  std::string out = "GGUF" + gguf_bytes(version_);
  out += gguf_bytes(claimed_tensors_.value_or(tensors_.size()));
  out += gguf_bytes(claimed_entries_.value_or(entries_.size()));
  for (const std::string& entry : entries_) out += entry;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    out += gguf_bytes(tensor.name) + gguf_bytes(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t n : tensor.dims) out += gguf_bytes(n);
    out += gguf_bytes(tensor.type) + gguf_bytes(tensor.offset.value_or(offset));
    offset += (tensor.data.size() + alignment_ - 1) / alignment_ * alignment_;
  }
  return out;
}

std::string GgufBuilder::bytes() const {
  std::string out = header();
  pad(out, alignment_);
  for (const Tensor& tensor : tensors_) {
    out += tensor.data;
    pad(out, alignment_);
  }
  return out;
}

GgufBuilder sample_gguf() {
  GgufBuilder gguf;
  gguf.add("general.architecture", "deepseek2").alignment(64);
  gguf.add("t.u8", uint8_t{255}).add("t.i8", int8_t{-128});
  gguf.add("t.u16", uint16_t{65535}).add("t.i16", int16_t{-32768});
  gguf.add("t.u32", uint32_t{4294967295}).add("t.i32", std::numeric_limits<int32_t>::min());
  gguf.add("t.u64", std::numeric_limits<uint64_t>::max());
  gguf.add("t.i64", std::numeric_limits<int64_t>::min());
  gguf.add("t.f32", 1e-6f).add("t.f64", 2.5e300).add("t.bool", true);
  gguf.add("t.bytes", std::string_view("\xff\0\n", 3));
  gguf.add_array("a.u8", std::vector<uint8_t>{0, 255}).add_array("a.i8", std::vector<int8_t>{-1});
  gguf.add_array("a.u16", std::vector<uint16_t>{65535});
  gguf.add_array("a.i16", std::vector<int16_t>{-32768, 1});
  gguf.add_array("a.u32", std::vector<uint32_t>{1, 4294967295});
  gguf.add_array("a.i32", std::vector<int32_t>{-5, 6});
  gguf.add_array("a.u64", std::vector<uint64_t>{std::numeric_limits<uint64_t>::max()});
  gguf.add_array("a.i64", std::vector<int64_t>{std::numeric_limits<int64_t>::min()});
  gguf.add_array("a.f32", std::vector<float>{0.5f, -2.0f}).add_array("a.f64", std::vector{1e-300});
  gguf.add_array("a.bool", std::vector<bool>{true, false, true});
  gguf.add_array("a.string", std::vector<std::string>{"", "\xc4\xa0the", "\xfe"});
  gguf.add_array("a.empty", std::vector<std::string>{});
  gguf.add_raw("a.nested", 9,
               GgufBuilder::array_head(GgufType::array, 2) +
                   GgufBuilder::array_bytes(std::vector<uint32_t>{1, 2, 3}) +
                   GgufBuilder::array_bytes(std::vector<std::string>{"x"}));
  gguf.add_tensor("token_embd.weight", DType::f32, {4, 2}, std::string(32, '\1'));
  gguf.add_tensor("output_norm.weight", DType::f16, {3});
  gguf.add_tensor("blk.0.ffn_up_exps.weight", DType::q4_k, {256, 2, 3}, std::string(864, '\2'));
  gguf.add_tensor("blk.0.wide", DType::q8_0, {32, 1, 1, 2});
  return gguf;
}

}  // namespace hybrid::test
