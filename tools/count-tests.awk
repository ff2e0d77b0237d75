# Sums ctest's LastTest.log by kind (the part of a test's name before "/"):  preset kind passed failed skipped
#
# A cmocka program counts by its "[ RUN ]", "[ OK ]" and "[ SKIPPED ]" lines; a started test that is neither is a failed one,
# so a crash counts.  Programs that print "N passed, N failed, N skipped" count so; others as one test.  A program that ctest
# calls failed has at least one failure.
function finish() {
  if (name == "") return
  kind = name
  sub(/\/.*/, "", kind)
  if (told) { passed = t_passed; failed = t_failed; skipped = t_skipped }
  else if (run > 0) { passed = ok; skipped = skip; failed = run - ok - skip }
  else { passed = good ? 1 : 0; failed = good ? 0 : 1; skipped = 0 }
  if (!good && failed == 0) failed = 1
  if (good && failed > 0) print name ": ctest says passed, its output says failed" > "/dev/stderr"
  if (!(kind in seen)) { seen[kind] = 1; kinds[++count] = kind }
  sum_passed[kind] += passed; sum_failed[kind] += failed; sum_skipped[kind] += skipped
  name = ""
}
/^[0-9]+\/[0-9]+ Testing: / {
  finish()
  name = $0
  sub(/^[0-9]+\/[0-9]+ Testing: /, "", name)
  run = ok = skip = told = good = t_passed = t_failed = t_skipped = 0
}
/^\[ RUN      \] / { run++ }
/^\[       OK \] / { ok++ }
/^\[  SKIPPED \] / && !/test\(s\)/ && !listed[name, $0]++ { skip++ }
/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
  told = 1
  t_passed += $1; t_failed += $3; t_skipped += $5
}
/^Test Passed\.$/ { good = 1 }
END {
  finish()
  for (i = 1; i <= count; i++) {
    kind = kinds[i]
    print preset, kind, sum_passed[kind] + 0, sum_failed[kind] + 0, sum_skipped[kind] + 0
  }
}
