#pragma once
// What the process's control group (version 2) allows it.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace hybrid {

/// Where the unified hierarchy is mounted.
inline constexpr const char* kCgroupMount = "/sys/fs/cgroup";

/// The group of this process, "/" at the top and relative to the mount; "" where there is none.
std::string own_cgroup();

/// The group in the text of /proc/self/cgroup: "0::/a/b\n" gives "/a/b".
std::string parse_own_cgroup(std::string_view text);

/// The processors that a cpu.max file grants: "150000 100000\n" is 1.5. None where it grants any
/// number ("max 100000") or is not understood.
std::optional<double> parse_cpu_max(std::string_view text);

/// The least grant from `group` up to the top, as all of them bind. None where nothing does.
std::optional<double> cpu_quota(const std::filesystem::path& mount, const std::string& group);

}  // namespace hybrid
