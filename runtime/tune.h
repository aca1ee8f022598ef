#pragma once
// The search of `tune`: which of several settings is the fastest, found within a time, on a machine
// whose speed drifts.

#include <cstddef>
#include <optional>
#include <vector>

#include "base/function_ref.h"

namespace hybrid {

struct TuneEffort {
  double seconds = 20;  // no round begins that would end later; the first one is cut at half of it
  uint32_t n_rounds = 5;     // at most
  double least_gain = 0.02;  // another than the usual one is chosen where it is so much faster
};

struct TuneSearch {
  struct Candidate {
    std::vector<double> tps;  // [rounds that it took part in]; empty: there was no time for it
    double typical() const;   // the median; 0 without samples
  };
  std::vector<Candidate> candidates;
  size_t chosen = 0;
};

/// Candidates are measured in turns, the usual one first in each round, so that what the machine
/// does meanwhile falls on all of them. After each round those that are slower than 0.8 of the best
/// leave. The usual one stays, and is chosen unless the median of another's ratio to it, round by
/// round and of at least two, is 1 + least_gain or more; among such the best.
///
/// `measure(i)`: a sample of candidate i in tokens per second, nothing where the user ended it:
/// then there is no result. `now()`: seconds.
std::optional<TuneSearch> find_fastest(size_t n_candidates, size_t usual, const TuneEffort& effort,
                                       FunctionRef<std::optional<double>(size_t)> measure,
                                       FunctionRef<double()> now);

/// Numbers of threads worth a measurement, the largest first: all cores, three quarters and halves
/// of them down to 1, as many as each number of nodes has, and all processors where cores have
/// several. At most 4096.
std::vector<int> thread_candidates(int n_cores, int n_processors, int n_nodes);

}  // namespace hybrid
