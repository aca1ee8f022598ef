#pragma once
// Rules as -ot takes them, with a range of experts behind the pattern, as configs have them:
// "_exps@0-3=SIM0,_exps=CPU".

#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "placement/rules.h"

namespace hybrid::test {

inline std::vector<PlacementRule> parse_split_rules(const std::string& text) {
  std::vector<PlacementRule> rules = parse_rules(text, "-ot");
  for (PlacementRule& rule : rules) {
    const size_t at = rule.pattern.find('@');
    if (at == std::string::npos) continue;
    ExpertRange range;
    REQUIRE(std::sscanf(rule.pattern.c_str() + at, "@%u-%u", &range.first, &range.last) == 2);
    rule.experts = range;
    rule.pattern.resize(at);
  }
  return rules;
}

}  // namespace hybrid::test
