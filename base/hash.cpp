#include "base/hash.h"

#include <bit>
#include <cstring>

namespace hybrid {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in files");

constexpr uint64_t kMultiplier = 0x9e3779b97f4a7c15;  // odd, so that a step can be undone
constexpr int kLanes = 8;                             // hides the latency of the multiplication
constexpr size_t kBlockBytes = kLanes * sizeof(uint64_t);

/// For a given word one-to-one in the state, for a given state one-to-one in the word. The
/// multiplication carries differences upwards, the shift and the rotation downwards: with the
/// rotation alone a flipped top bit would be undone by one other bit of the next word.
uint64_t step(uint64_t state, uint64_t word) {
  return std::rotl((state ^ word ^ (word >> 32)) * kMultiplier, 29);
}

void add_block(uint64_t (&lanes)[kLanes], const std::byte* block) {
  uint64_t words[kLanes];
  std::memcpy(words, block, sizeof(words));
  for (int i = 0; i < kLanes; ++i) lanes[i] = step(lanes[i], words[i]);
}

}  // namespace

uint64_t hash_bytes(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = step(seed, static_cast<uint64_t>(i) + 1);
  const size_t n_whole = bytes.size() / kBlockBytes * kBlockBytes;
  for (size_t at = 0; at < n_whole; at += kBlockBytes) add_block(lanes, bytes.data() + at);
  if (n_whole < bytes.size()) {
    std::byte padded[kBlockBytes]{};
    std::memcpy(padded, bytes.data() + n_whole, bytes.size() - n_whole);
    add_block(lanes, padded);
  }
  uint64_t hash = step(seed, bytes.size());
  for (const uint64_t lane : lanes) hash = step(hash, lane);
  hash = (hash ^ (hash >> 32)) * kMultiplier;
  return hash ^ (hash >> 29);
}

}  // namespace hybrid
