#include "numa/number_list.h"

#include <doctest/doctest.h>

using namespace hybrid;

using Numbers = std::vector<int>;

TEST_CASE("lists of processors are read as the kernel writes them") {
  CHECK(parse_number_list("0-3,8\n") == Numbers{0, 1, 2, 3, 8});
  CHECK(parse_number_list("7") == Numbers{7});
  CHECK(parse_number_list("\n") == Numbers{});
  CHECK(parse_number_list("") == Numbers{});
  for (const char* wrong :
       {"a", "1-", "-1", "3-1", "1,1", "2,1", "1,,2", "1;2", "9999999", "0-1,"}) {
    CAPTURE(wrong);
    CHECK_FALSE(parse_number_list(wrong).has_value());
  }
}

TEST_CASE("lists of processors are written as the kernel does") {
  for (const char* text : {"0", "0-1", "0-3,8", "2,4,6-9"}) {
    CHECK(number_list_text(*parse_number_list(text)) == text);
  }
  CHECK(number_list_text({}) == "none");
  CHECK(nodes_text({3}) == "node 3");
  CHECK(nodes_text({0, 1, 4}) == "nodes 0-1,4");
}

TEST_CASE("what lists have in common") {
  CHECK(common_numbers({0, 1, 5}, {1, 2, 5, 7}) == Numbers{1, 5});
  CHECK(common_numbers({0}, {1}).empty());
  CHECK(has_number({0, 4}, 4));
  CHECK_FALSE(has_number({0, 4}, 3));
}
