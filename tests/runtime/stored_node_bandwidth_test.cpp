#include "runtime/stored_node_bandwidth.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <fstream>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

/// The user's cache folder for one test.
struct CacheFolder {
  TempDir dir;
  std::string before = getenv("XDG_CACHE_HOME") != nullptr ? getenv("XDG_CACHE_HOME") : "";

  CacheFolder() { setenv("XDG_CACHE_HOME", dir.path().c_str(), 1); }
  ~CacheFolder() { setenv("XDG_CACHE_HOME", before.c_str(), 1); }
};

StoredNodeBandwidth two_nodes() {
  return {"a processor",
          {0, 1},
          "2026-11-21T19:50Z",
          {.pairs = {{0, 0, 200.5}, {0, 1, 80.25}, {1, 0, 81}, {1, 1, 201}},
           .all_local_gb_per_s = 401.5}};
}

}  // namespace

TEST_CASE("the nodes' bandwidth is found again by the machine it was measured on") {
  const CacheFolder folder;
  CHECK_FALSE(find_node_bandwidth("a processor", {0, 1}).stored);
  CHECK(find_node_bandwidth("a processor", {0, 1}).notice.empty());
  const auto path = store_node_bandwidth(two_nodes());
  CHECK(path == node_bandwidth_path());
  CHECK(find_node_bandwidth("a processor", {0, 1}).stored == two_nodes());
  const FoundNodeBandwidth other = find_node_bandwidth("another", {0});
  CHECK_FALSE(other.stored);
  CHECK(other.notice.find("it is of another machine (a processor, nodes 0-1; this is another, "
                          "node 0); `topology --measure` writes it anew") != std::string::npos);
}

TEST_CASE("a damaged file of the nodes' bandwidth is a notice with the place") {
  const CacheFolder folder;
  const auto path = store_node_bandwidth(two_nodes());
  std::ofstream(path) << R"({"version": 1, "cpu": 7})";
  const FoundNodeBandwidth found = find_node_bandwidth("a processor", {0, 1});
  CHECK_FALSE(found.stored);
  CHECK(found.notice.find("expected a string, found 7") != std::string::npos);
  CHECK(found.notice.ends_with("`topology --measure` writes it anew"));
  std::ofstream(path) << R"({"version": 2})";
  CHECK(find_node_bandwidth("a processor", {0, 1}).notice.find("version") != std::string::npos);
}

TEST_CASE("without a folder the bandwidth is not kept, and that is an Error with the remedy") {
  const CacheFolder folder;
  unsetenv("XDG_CACHE_HOME");
  const std::string home = getenv("HOME") != nullptr ? getenv("HOME") : "";
  unsetenv("HOME");
  CHECK(error_of([] { store_node_bandwidth(two_nodes()); }) ==
        "the environment names no cache folder: set XDG_CACHE_HOME or HOME");
  setenv("HOME", home.c_str(), 1);
}
