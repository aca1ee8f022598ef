#include "numa/team.h"

#include <doctest/doctest.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <thread>

#include "numa/split_range.h"
#include "tests/support/expect_error.h"

using namespace hybrid;

namespace {

constexpr WaitPolicy kWait{std::chrono::microseconds(20), std::chrono::microseconds(1500)};
constexpr std::chrono::seconds kLong{60};
constexpr Team::StandIn kNoStandIn = Team::StandIn::no;

/// A team whose threads the test sends in one by one.
class TestTeam {
 public:
  explicit TestTeam(int n_threads)
      : TestTeam(std::vector<CpuList>(static_cast<size_t>(n_threads))) {}
  explicit TestTeam(std::vector<CpuList> pins) : team(std::move(pins), kWait) {}
  ~TestTeam() {
    team.end();
    for (std::thread& thread : threads_) thread.join();
  }

  void send_member() {
    const int n_before = team.n_present();
    threads_.emplace_back([this] {
      const CpuList before = thread_affinity();
      team.serve();
      if (thread_affinity() != before) n_changed_masks.fetch_add(1);
    });
    while (team.n_present() == n_before) std::this_thread::yield();
  }

  Team team;
  std::atomic<int> n_changed_masks{0};

 private:
  std::vector<std::thread> threads_;
};

/// The share each index was given, and by how many calls; checks that n_members ran.
void check_shares(Team& team, int n_members) {
  const auto n = static_cast<size_t>(team.n_threads());
  std::vector<IndexRange> shares(n);
  std::vector<std::atomic<int>> n_calls(n);
  std::atomic<int> n_bodies{0};
  team.run_region(team.n_threads(), kNoStandIn, [&](TeamMember& member) {
    ++n_bodies;
    CHECK(member.n_members() == n_members);
    member.ranges(1000, 16, [&](uint64_t begin, uint64_t end, int index) {
      shares[static_cast<size_t>(index)] = {begin, end};
      ++n_calls[static_cast<size_t>(index)];
    });
  });
  CHECK(n_bodies == n_members);
  for (size_t i = 0; i < n; ++i) {
    CHECK(n_calls[i] == 1);
    CHECK(shares[i] == split_range(1000, 16, i, n));
  }
}

}  // namespace

TEST_CASE("shares do not depend on how many came, and who comes late joins in") {
  TestTeam threads(4);
  Team& team = threads.team;
  for (int n_members = 1; n_members <= 4; ++n_members) {
    CHECK(team.n_present() == n_members);
    for (int i = 0; i < 20; ++i) check_shares(team, n_members);
    if (n_members < 4) threads.send_member();
  }
}

TEST_CASE("waiting for members ends at its limit") {
  TestTeam threads(3);
  threads.send_member();
  threads.team.await_members(std::chrono::milliseconds(1));
  CHECK(threads.team.n_present() == 2);
  threads.send_member();
  threads.team.await_members(kLong);
  CHECK(threads.team.n_present() == 3);
}

TEST_CASE("a region may want fewer than all, in any order") {
  TestTeam threads(3);
  threads.send_member();
  threads.send_member();
  for (int i = 0; i < 3000; ++i) {
    const int n_wanted = 1 + i % 7 % 3;
    std::atomic<int> n_bodies{0}, sum{0};
    threads.team.run_region(n_wanted, kNoStandIn, [&](TeamMember& member) {
      ++n_bodies;
      sum += member.index();
    });
    REQUIRE(n_bodies == n_wanted);
    REQUIRE(sum == n_wanted * (n_wanted - 1) / 2);
  }
}

TEST_CASE("each part is done once, whether its member or the caller does it") {
  // With more threads than processors some members are late in some regions.
  TestTeam threads(6);
  for (int i = 1; i < 6; ++i) threads.send_member();
  for (int i = 0; i < 3000; ++i) {
    std::array<std::atomic<int>, 6> n_calls{};
    threads.team.run_region(6, Team::StandIn::yes, [&](TeamMember& member) {
      ++n_calls[static_cast<size_t>(member.index())];
    });
    for (const auto& n : n_calls) REQUIRE(n == 1);
  }
}

TEST_CASE("the caller does the part of a member that cannot begin") {
  TestTeam threads(2);
  threads.send_member();
  const std::thread::id caller = std::this_thread::get_id();
  // A member that is stopped would be the real thing; here the region is short, the member asleep.
  int n_by_caller = 0;
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (n_by_caller == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::thread::id by;
    threads.team.run_region(2, Team::StandIn::yes, [&](TeamMember& member) {
      if (member.index() == 1) by = std::this_thread::get_id();
    });
    n_by_caller += by == caller;
  }
  CHECK(n_by_caller == 1);
}

TEST_CASE("a member is on its processors while it serves, and has its mask back afterwards") {
  const int cpu = thread_affinity().back();
  std::optional<TestTeam> threads(std::in_place, std::vector<CpuList>{{}, {cpu}});
  threads->send_member();
  std::vector<CpuList> masks(2);
  threads->team.run_region(2, kNoStandIn, [&](TeamMember& member) {
    masks[static_cast<size_t>(member.index())] = thread_affinity();
  });
  CHECK(masks[0] == thread_affinity());
  CHECK(masks[1] == CpuList{cpu});
  threads->team.end();
  CHECK(threads->n_changed_masks == 0);
}

TEST_CASE("a thread that comes after the end goes at once") {
  TestTeam threads(2);
  threads.team.end();
  threads.team.serve();
  CHECK(threads.team.n_present() == 1);
}

TEST_CASE("regions are not nested, whatever the team") {
  CHECK(test::error_of([] {
          const InsideRegion outer;
          const InsideRegion inner;
        }).find("is_nested") != std::string::npos);
  const InsideRegion again;  // the failed attempt has left nothing behind
}
