#include "runtime/panel_cache_format.h"

#include <cstring>
#include <functional>

#include "base/error.h"
#include "base/hash.h"
#include "base/rounding.h"
#include "runtime/model_identity.h"

namespace hybrid {
namespace {

struct Source {
  uint32_t part;
  uint64_t offset;
};

Source find_source(const GgufFile& model, const Weight& w) {
  const std::less<> before;  // of pointers into different mappings, too
  for (uint32_t i = 0; i < model.parts().size(); ++i) {
    const std::span<const std::byte> bytes = model.part_bytes(i);
    const std::byte* rows = w.rows.data.data();
    if (before(rows, bytes.data()) || !before(rows, bytes.data() + bytes.size())) continue;
    return {i, static_cast<uint64_t>(rows - bytes.data())};
  }
  HYBRID_CHECK(!"the rows lie in the model's mapping");
  return {};
}

}  // namespace

PanelCacheHead::PanelCacheHead(const GgufFile& model, const std::vector<const Weight*>& weights)
    : bytes_(sizeof(PanelCacheHeader)) {
  PanelCacheHeader h{};
  std::memcpy(h.magic, kPanelCacheMagic, sizeof(h.magic));
  h.version = kPanelCacheVersion;
  h.n_parts = static_cast<uint32_t>(model.parts().size());
  h.n_weights = static_cast<uint32_t>(weights.size());
  h.chunk_bytes = kPanelCacheChunkBytes;
  for (const Weight* w : weights) {
    h.n_panels += packed_panels(*w);
    h.data_bytes += packed_bytes(*w);
  }
  std::memcpy(bytes_.data(), &h, sizeof(h));
  h.data_offset = round_up(exponents_offset() + h.n_panels, kPanelCacheAlignment);
  bytes_.resize(h.data_offset);
  std::memcpy(bytes_.data(), &h, sizeof(h));
  fill_parts(model);
  fill_weights(model, weights);
}

void PanelCacheHead::fill_parts(const GgufFile& model) {
  auto* out = at<PanelCachePart>(sizeof(PanelCacheHeader));
  for (size_t i = 0; i < model.parts().size(); ++i) {
    const GgufFile::Part& part = model.parts()[i];
    out[i] = {part.n_bytes, part.mtime_ns, part_hash(model, i)};
  }
}

void PanelCacheHead::fill_weights(const GgufFile& model,
                                  const std::vector<const Weight*>& weights) {
  auto* out = at<PanelCacheWeight>(weights_offset());
  uint64_t offset = 0, panel = 0;
  for (const Weight* w : weights) {
    const auto [part, source_offset] = find_source(model, *w);
    const uint64_t n_bytes = packed_bytes(*w), n_panels = packed_panels(*w);
    *out++ = {part,          static_cast<uint32_t>(w->type()),
              source_offset, w->n_cols(),
              w->n_rows(),   w->n_matrices(),
              offset,        n_bytes,
              panel,         n_panels};
    offset += n_bytes;
    panel += n_panels;
  }
}

uint64_t PanelCacheHead::n_chunks() const {
  return (header().data_bytes + kPanelCacheChunkBytes - 1) / kPanelCacheChunkBytes;
}

uint64_t PanelCacheHead::weights_offset() const {
  return sizeof(PanelCacheHeader) + header().n_parts * sizeof(PanelCachePart);
}

uint64_t PanelCacheHead::hashes_offset() const {
  return weights_offset() + header().n_weights * sizeof(PanelCacheWeight);
}

uint64_t PanelCacheHead::exponents_offset() const {
  return hashes_offset() + n_chunks() * sizeof(uint64_t);
}

std::span<const PanelCachePart> PanelCacheHead::parts() const {
  return {at<const PanelCachePart>(sizeof(PanelCacheHeader)), header().n_parts};
}

std::span<const PanelCacheWeight> PanelCacheHead::weights() const {
  return {at<const PanelCacheWeight>(weights_offset()), header().n_weights};
}

std::span<uint64_t> PanelCacheHead::chunk_hashes() {
  return {at<uint64_t>(hashes_offset()), n_chunks()};
}

std::span<int8_t> PanelCacheHead::exponents() {
  return {at<int8_t>(exponents_offset()), header().n_panels};
}

void PanelCacheHead::seal() {
  auto& h = *at<PanelCacheHeader>(0);
  h.head_hash = hash_bytes(body(), kPanelCacheVersion);
  h.header_hash = hash_of(h);
}

uint64_t hash_of(const PanelCacheHeader& header) {
  return hash_bytes(
      std::as_bytes(std::span(&header, 1)).first(offsetof(PanelCacheHeader, header_hash)), 0);
}

}  // namespace hybrid
