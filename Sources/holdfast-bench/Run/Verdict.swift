// Holdfast beside its peers in one case. Pure.

struct Verdict {
  var ours: Summary
  var best: (kind: ServerKind, summary: Summary)
  /// Above 1: faster than the best peer.
  var ratio: Double
  var ourCPU: Summary?
  var cheapest: (kind: ServerKind, summary: Summary)?
  /// Below 1: cheaper than the cheapest peer.
  var cpuRatio: Double?

  /// Nil without a measurement of holdfast and one of a peer.
  init?(_ item: Case, _ results: BenchResults) {
    func medians(_ value: (Sample) -> Double?) -> [(kind: ServerKind, summary: Summary)] {
      ServerKind.allCases.filter { $0.isPeer(in: item) }
        .compactMap { kind in results.summary(item, kind, value).map { (kind, $0) } }
    }
    let peers = medians(\.value)
    let best = peers.max { item.unit.ratio($0.summary.median, to: $1.summary.median) < 1 }
    guard let ours = results.summary(item, .holdfast, \.value), let best else { return nil }
    self.ours = ours
    self.best = best
    ratio = item.unit.ratio(ours.median, to: best.summary.median)
    ourCPU = results.summary(item, .holdfast, \.cpuMicrosecondsPerOperation)
    cheapest = medians(\.cpuMicrosecondsPerOperation).min { $0.summary.median < $1.summary.median }
    if let ourCPU, let cheapest, cheapest.summary.median > 0 { cpuRatio = ourCPU.median / cheapest.summary.median }
  }
}
