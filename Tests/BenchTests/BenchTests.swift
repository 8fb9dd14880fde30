// The arithmetic behind the benchmark's tables.

import Testing

@testable import holdfast_bench

@Suite struct BenchTests {
  @Test func medianIsTheMiddleOrTheMeanOfTheTwo() {
    #expect(Summary([5, 1, 3]) == Summary([1, 3, 5]))
    #expect(Summary([5, 1, 3])?.median == 3)
    #expect(Summary([4, 1, 3, 2])?.median == 2.5)
    #expect(Summary([4, 1, 3, 2])?.least == 1)
    #expect(Summary([4, 1, 3, 2])?.most == 4)
    #expect(Summary([]) == nil)
  }

  @Test func bucketsCoverAllTimesWithoutGaps() {
    var next: UInt64 = 0
    for bucket in 0..<1500 {
      let last = LatencyHistogram.upperBound(bucket)
      #expect(LatencyHistogram.bucket(next) == bucket)
      #expect(LatencyHistogram.bucket(last) == bucket)
      #expect(Double(last - next) <= Double(max(next, 1)) / 31)
      next = last + 1
    }
  }

  @Test func percentileIsAtMostTheWidthOfABucketTooHigh() {
    var histogram = LatencyHistogram()
    var other = LatencyHistogram()
    for value in 1...10_000 as ClosedRange<UInt64> {
      if value % 2 == 0 { histogram.add(value * 100) } else { other.add(value * 100) }
    }
    histogram.add(other)
    #expect(histogram.count == 10_000)
    for (fraction, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.001, 1000.0)] {
      let found = Double(histogram.percentile(fraction))
      #expect(found >= exact)
      #expect(found <= exact * 1.032)
    }
    #expect(histogram.percentile(1) == 1_000_000)
    #expect(LatencyHistogram().percentile(0.99) == 0)
  }

  @Test func randomPlacesStayBelowTheirBound() {
    var random = Randomness(seed: 7)
    var again = Randomness(seed: 7)
    var seen = Set<UInt64>()
    for _ in 0..<1000 {
      let place = random.next(below: 16)
      #expect(place == again.next(below: 16))
      #expect(place < 16)
      seen.insert(place)
    }
    #expect(seen.count == 16)
  }

  @Test func numbersKeepTheirDigits() {
    #expect(fixed(3.14159, 2) == "3.14")
    #expect(fixed(0.005, 2) == "0.01")
    #expect(fixed(0.049, 1) == "0.0")
    #expect(fixed(-0.001, 2) == "0.00")
    #expect(fixed(-12.5, 1) == "-12.5")
    #expect(fixed(1234.5, 0) == "1235")
    #expect(fixed(.nan, 2) == "-")
    #expect(brief(0.1234) == "0.123")
    #expect(brief(12.34) == "12.3")
    #expect(brief(54321.6) == "54322")
  }

  @Test func tablesLineUp() {
    var table = Table(["case", "ratio"])
    table.rows.append(["read", "1.50"])
    table.rows.append(["write 4k", "12.00"])
    #expect(table.text == "| case     | ratio |\n| -------- | ----: |\n| read     |  1.50 |\n| write 4k | 12.00 |\n")
  }

  @Test func jsonIsQuotedAndFinite() {
    let document = JSON.members([
      ("a\"b", .list([.number(1), .number(0.25), .number(.infinity)])), ("c", .text("x\n\u{1}")),
    ])
    #expect(document.text() == "{\n  \"a\\\"b\": [1, 0.2500, null],\n  \"c\": \"x\\n\\u0001\"\n}")
  }

  @Test func verdictComparesWithPeersOnly() throws {
    let item = Case(name: "a case", work: .load(Workload()), floor: 1, goal: 2)
    var results = BenchResults()
    func add(_ kind: ServerKind, _ values: [Double], cpu: Double) {
      for value in values { results.add(Sample(value: value, cpuMicrosecondsPerOperation: cpu), item, kind) }
    }
    add(.holdfast, [300, 310, 10], cpu: 2)
    #expect(Verdict(item, results) == nil)
    add(.nbdkit, [200, 190, 5000], cpu: 8)
    add(.qemuUring, [100, 110, 120], cpu: 4)
    add(.nbdServerSplice, [900], cpu: 1)
    add(.null, [9000], cpu: 1)
    let verdict = try #require(Verdict(item, results))
    #expect(verdict.best.kind == .nbdkit)
    #expect(verdict.ratio == 1.5)
    #expect(verdict.cheapest?.kind == .qemuUring)
    #expect(verdict.cpuRatio == 0.5)
  }

  @Test func onlyWhatIsSlowAndDearTwiceIsLeftOut() {
    let item = Case(name: "a case", work: .load(Workload()), floor: 1, goal: 2)
    var results = BenchResults()
    func add(_ kind: ServerKind, _ rounds: [(value: Double, cpu: Double)]) {
      for round in rounds {
        results.add(Sample(value: round.value, cpuMicrosecondsPerOperation: round.cpu), item, kind)
      }
    }
    add(.holdfast, [(10, 90), (10, 90)])
    add(.nbdkit, [(300, 10), (300, 10)])
    add(.qemuThreads, [(100, 20), (100, 20)])
    add(.qemuNative, [(100, 12), (100, 12)])
    add(.qemuUring, [(100, 20), (250, 20)])
    add(.nbdServer, [(100, 20)])
    let left = ServerKind.allCases.filter { results.isOutOfReach(item, $0) }
    #expect(left == [.qemuThreads, .nbdServerSplice, .null])
    #expect(!results.isLeftOut(item, .qemuThreads, of: 1, false))
    #expect(results.isLeftOut(item, .qemuThreads, of: 2, false))
    #expect(!results.isLeftOut(item, .qemuThreads, of: 2, true))
  }

  @Test func lessIsBetterForTimesAndMemory() {
    #expect(Unit.seconds.ratio(1, to: 2) == 2)
    #expect(Unit.kibibytes.ratio(1, to: 6) == 6)
    #expect(Unit.perSecond.ratio(1, to: 2) == 0.5)
  }

  @Test func casesHaveNamesOfTheirOwn() {
    #expect(Set(Case.all.map(\.name)).count == Case.all.count)
    for item in Case.all { #expect(item.floor <= item.goal, "\(item.name)") }
  }
}
