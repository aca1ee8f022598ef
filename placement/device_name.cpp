#include "placement/device_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/error.h"
#include "base/text.h"

namespace hybrid {
namespace {

struct Kind {
  std::string_view word, name;
  DeviceKind kind;
  bool is_numbered;
};
constexpr Kind kKinds[] = {{"CPU", "cpu", DeviceKind::cpu, false},
                           {"NODE", "node", DeviceKind::node, true},
                           {"DISK", "disk", DeviceKind::disk, false},
                           {"CUDA", "cuda", DeviceKind::cuda, true},
                           {"SIM", "sim", DeviceKind::sim, true}};

const Kind& kind_of(DeviceKind kind) {
  return *std::find_if(std::begin(kKinds), std::end(kKinds),
                       [&](const Kind& k) { return k.kind == kind; });
}

std::string nearest_device(std::string_view word) {
  std::string upper(word);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  upper.erase(std::remove(upper.begin(), upper.end(), ':'), upper.end());  // cuda:0
  if (parse_device(upper)) return upper;
  if (upper.starts_with("GPU")) upper = "CUDA" + upper.substr(3);
  if (parse_device(upper)) return upper;
  if (parse_device(upper + "0")) return upper + "0";
  return nearest_name(upper, {"CPU", "DISK", "CUDA0", "NODE0", "SIM0"});
}

}  // namespace

std::string_view name_of(DeviceKind kind) { return kind_of(kind).name; }

std::string text_of(DeviceName device) {
  const Kind& kind = kind_of(device.kind);
  return kind.is_numbered ? fmt::format("{}{}", kind.word, device.index) : std::string(kind.word);
}

std::optional<DeviceName> parse_device(std::string_view word) {
  for (const Kind& kind : kKinds) {
    if (!word.starts_with(kind.word)) continue;
    const std::string_view digits = word.substr(kind.word.size());
    if (!kind.is_numbered) {
      if (!digits.empty()) continue;
      return DeviceName{kind.kind, 0};
    }
    uint32_t index = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, index);
    const bool is_plain = digits.size() == 1 || !digits.starts_with('0');
    if (digits.empty() || error != std::errc() || stop != end || !is_plain) continue;
    return DeviceName{kind.kind, index};
  }
  return {};
}

std::string unknown_device_text(std::string_view word) {
  const std::string nearest = nearest_device(word);
  return fmt::format("unknown device '{}'{}; devices are CPU, CUDA0.., SIM0.., DISK",
                     printable(word), nearest.empty() ? "" : " (did you mean " + nearest + "?)");
}

}  // namespace hybrid
