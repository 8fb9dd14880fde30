// The pictures and the page of what grows.

import Testing

@testable import holdfast_bench

@Suite struct PlotTests {
  @Test func ticksAreRoundAndCoverTheValues() {
    let linear = Axis(label: "")
    #expect(linear.bounds([3, 7, 540_000]) == 0...600_000)
    #expect(
      linear.ticks(in: 0...600_000).map(linear.text) == ["0", "100 k", "200 k", "300 k", "400 k", "500 k", "600 k"])
    let binary = Axis(label: "", scale: .binary)
    #expect(binary.bounds([1, 256]) == 1...256)
    #expect(binary.ticks(in: 1...256).map(binary.text) == ["1", "2", "4", "8", "16", "32", "64", "128", "256"])
    let decimal = Axis(label: "", scale: .decimal)
    #expect(decimal.bounds([0.3, 40]) == 0.1...100)
    #expect(decimal.ticks(in: 1...10).map(decimal.text) == ["1", "2", "5", "10"])
    let bytes = Axis(label: "", scale: .binary, isBytes: true)
    let range = bytes.bounds([Double(1 << 30), Double(4 << 40)])
    #expect(bytes.text(range.lowerBound) == "1 GiB")
    #expect(bytes.text(range.upperBound) == "4 TiB")
  }

  @Test func valuesStandBetweenTheEndsOfTheirAxis() {
    for scale in [Axis.Scale.linear, .binary, .decimal] {
      let axis = Axis(label: "", scale: scale)
      let values = [0.7, 1, 3, 900, 123_456]
      let bounds = axis.bounds(values)
      let places = values.map { axis.place($0, in: bounds) }
      #expect(places == places.sorted())
      for place in places { #expect((0...1).contains(place), "\(scale) \(places)") }
    }
  }

  @Test func pictureHasEveryPointAndQuotesItsNames() {
    let plot = Plot(
      title: "a < b & c", x: Axis(label: "x", scale: .binary), y: Axis(label: "y"),
      lines: [
        Plot.Line(name: "ours", points: [(1, 10), (2, 20), (4, 5)], isOurs: true),
        Plot.Line(name: "theirs", points: [(1, 1), (4, 2)]), Plot.Line(name: "nothing", points: []),
      ])
    let svg = plot.svg
    #expect(svg.contains("a &lt; b &amp; c"))
    // Three points and one in the legend.
    #expect(svg.components("<circle").count - 1 == 4)
    #expect(svg.contains("prefers-color-scheme: dark"))
    for unwanted in ["nan", "inf", "href", "<script"] { #expect(!svg.contains(unwanted), "\(unwanted)") }
  }

  @Test func newFiguresLeaveTheWordsAlone() throws {
    let page = """
      Words.
      <!-- measured: a -->
      old
      <!-- measured: end -->
      More words.
      <!-- measured: b -->
      <!-- measured: end -->
      Last words.
      """
    let renewed = try Page.replacing(page, with: ["a": "new a", "b": "new b"])
    for words in ["Words.", "More words.", "Last words.", "new a", "new b"] { #expect(renewed.contains(words)) }
    #expect(!renewed.contains("old"))
    #expect(try Page.replacing(renewed, with: ["a": "new a", "b": "new b"]) == renewed)
    #expect(throws: BenchError.self) { try Page.replacing(page, with: ["c": ""]) }
  }
}

extension String {
  fileprivate func components(_ separator: String) -> [Substring] {
    split(separator: separator, omittingEmptySubsequences: false)
  }
}
