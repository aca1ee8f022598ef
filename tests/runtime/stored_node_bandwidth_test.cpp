#include "runtime/stored_node_bandwidth.h"

#include <doctest/doctest.h>

#include <fstream>

#include "tests/support/environment_variable.h"
#include "tests/support/expect_error.h"

using namespace hybrid;
using namespace hybrid::test;

namespace {

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
  CHECK_FALSE(find_node_bandwidth("a processor", {0, 1}).value);
  CHECK(find_node_bandwidth("a processor", {0, 1}).notice.empty());
  const auto path = store_node_bandwidth(two_nodes());
  CHECK(path == node_bandwidth_path());
  CHECK(find_node_bandwidth("a processor", {0, 1}).value == two_nodes());
  const Cached<StoredNodeBandwidth> other = find_node_bandwidth("another", {0});
  CHECK_FALSE(other.value);
  CHECK(other.notice.find("it is of another machine (a processor, nodes 0-1; this is another, "
                          "node 0); `topology --measure` writes it anew") != std::string::npos);
}

TEST_CASE("a damaged file of the nodes' bandwidth is a notice with the place") {
  const CacheFolder folder;
  const auto path = store_node_bandwidth(two_nodes());
  std::ofstream(path) << R"({"version": 1, "cpu": 7})";
  const Cached<StoredNodeBandwidth> found = find_node_bandwidth("a processor", {0, 1});
  CHECK_FALSE(found.value);
  CHECK(found.notice.find("expected a string, found 7") != std::string::npos);
  CHECK(found.notice.ends_with("`topology --measure` writes it anew"));
  std::ofstream(path) << R"({"version": 2})";
  CHECK(find_node_bandwidth("a processor", {0, 1}).notice.find("version") != std::string::npos);
}

TEST_CASE("without a folder the bandwidth is not kept, and that is an Error with the remedy") {
  const EnvironmentVariable no_cache("XDG_CACHE_HOME", {}), no_home("HOME", {});
  CHECK(error_of([] { store_node_bandwidth(two_nodes()); }) ==
        "the environment names no cache folder: set XDG_CACHE_HOME or HOME");
}
