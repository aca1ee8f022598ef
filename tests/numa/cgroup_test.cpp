#include "numa/cgroup.h"

#include <doctest/doctest.h>

#include "tests/support/temp_dir.h"

using namespace hybrid;

TEST_CASE("cpu.max is a quota and a period, or no limit") {
  CHECK(parse_cpu_max("150000 100000\n") == 1.5);
  CHECK(parse_cpu_max("50000 100000") == 0.5);
  CHECK_FALSE(parse_cpu_max("max 100000\n").has_value());
  for (const char* text : {"", "\n", "100000", "100000 ", "0 100000", "100000 0", "-1 100000",
                           "1e5 100000", "100000 100000x", "99999999999999999999 1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_cpu_max(text).has_value());
  }
}

TEST_CASE("the own group is in the line of hierarchy 0") {
  CHECK(parse_own_cgroup("0::/\n") == "/");
  CHECK(parse_own_cgroup("4:memory:/x\n0::/user.slice/a b.scope\n") == "/user.slice/a b.scope");
  CHECK(parse_own_cgroup("1:cpu:/x\n10::/y\n").empty());
  CHECK(parse_own_cgroup("").empty());
}

TEST_CASE("the least quota up to the top binds") {
  const test::TempDir dir;
  std::filesystem::create_directories(dir.path() / "a/b");
  const auto write = [&](const char* file, const char* text) { dir.write(file, text); };
  CHECK_FALSE(cpu_quota(dir.path(), "/a/b").has_value());
  write("a/b/cpu.max", "max 100000\n");
  CHECK_FALSE(cpu_quota(dir.path(), "/a/b").has_value());
  write("a/cpu.max", "250000 100000\n");
  CHECK(cpu_quota(dir.path(), "/a/b") == 2.5);
  CHECK(cpu_quota(dir.path(), "/a/gone/deeper") == 2.5);
  write("a/b/cpu.max", "300000 100000\n");
  CHECK(cpu_quota(dir.path(), "/a/b") == 2.5);
  write("cpu.max", "100000 100000\n");
  CHECK(cpu_quota(dir.path(), "/a/b") == 1.0);
  CHECK(cpu_quota(dir.path(), "/") == 1.0);
  CHECK(cpu_quota(dir.path(), "") == 1.0);
}
