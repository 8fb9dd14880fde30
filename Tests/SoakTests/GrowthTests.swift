// A soak that cannot fail would tell nothing.

import Testing

@testable import holdfast_soak

@Suite struct GrowthTests {
  private func series(_ count: Int, _ sample: (Int) -> Sample) -> [Sample] { (0..<count).map(sample) }

  private let level = Sample(residentKiB: 40_000, proportionalKiB: 30_000, descriptors: 14, threads: 3)

  @Test func whatStaysIsFlat() {
    let samples = series(60) { index in
      var sample = level
      sample.residentKiB += index % 7 * 400
      if index < 5 { sample.residentKiB -= 20_000 }
      if index % 6 == 1 { sample.residentKiB += 150_000 }
      return sample
    }
    #expect(Growth.findings(samples).isEmpty)
  }

  @Test func whatCreepsIsFound() {
    let memory = series(60) { index in
      var sample = level
      sample.residentKiB += index * 400
      return sample
    }
    #expect(Growth.findings(memory).count == 1)
    let leaks = series(20) { index in
      var sample = level
      sample.descriptors += index / 6
      sample.threads += index / 6
      return sample
    }
    #expect(Growth.findings(leaks).count == 2)
  }

  @Test func tooFewSamplesProveNothing() {
    #expect(!Growth.findings([level, level]).isEmpty)
  }
}
