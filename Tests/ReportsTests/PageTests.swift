// JSON, maps and the page.

import Foundation
import NBDServerCore
import Oracle
import Reports
import Testing

@Suite struct Pages {
  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  @Test func theStatusIsJSONOnOneLine() throws {
    let name = "q\"\\\n\u{1}ä\u{2028}</script>"
    let text = statusJSON(MetricsTexts.full(exportName: name))
    #expect(!text.contains("\n"))
    let status = try object(text)
    #expect(status["schema"] as? Int == statusSchemaVersion)
    let exports = try #require(status["exports"] as? [[String: Any]])
    #expect(exports[0]["name"] as? String == name)
    #expect(exports[0]["allocated_bytes"] as? Int == 4096)
    let commands = try #require(exports[0]["commands"] as? [String: [String: Any]])
    #expect(Set(commands.keys) == Set(CountedCommand.allCases.map(\.label)))
    #expect(commands["write"]?["requests"] as? Int == 11)
  }

  @Test func anEmptyStatusIsJSONToo() throws {
    var status = ServerStatus()
    status.uptimeSeconds = .infinity
    #expect(try object(statusJSON(status))["uptime_seconds"] is NSNull)
  }

  /// Every byte of an image is in one cell, whatever its size.
  @Test(arguments: [0, 1, 4095, 4096, 4097, 1 << 20, 3_145_729, 1 << 40, (1 << 62) + 12_345] as [UInt64])
  func cellsCoverTheImage(sizeBytes: UInt64) {
    let map = AllocationMap(sizeBytes: sizeBytes)
    var end: UInt64 = 0
    for cell in 0..<AllocationMap.cellCount {
      let range = map.range(of: cell)
      #expect(range.lowerBound == end)
      end = range.upperBound
    }
    #expect(end == sizeBytes)
    #expect(map.range(of: max(0, map.usedCount - 1)).isEmpty == (sizeBytes == 0))
  }

  @Test func theMostOfACellIsShown() {
    #expect(AllocationMap.cell(dataBytes: 0, zeroBytes: 0, of: 100) == .hole)
    #expect(AllocationMap.cell(dataBytes: 0, zeroBytes: 1, of: 100) == .zero)
    #expect(AllocationMap.cell(dataBytes: 1, zeroBytes: 99, of: 100) == .quarter)
    #expect(AllocationMap.cell(dataBytes: 26, zeroBytes: 0, of: 100) == .half)
    #expect(AllocationMap.cell(dataBytes: 51, zeroBytes: 0, of: 100) == .most)
    #expect(AllocationMap.cell(dataBytes: 100, zeroBytes: 0, of: 100) == .full)
  }

  /// The rectangles of the picture, taken apart again, are the cells.
  @Test func thePictureShowsEachCellOnce() throws {
    let seed = printedSeed()
    var random = SeededGenerator(seed: seed)
    for sizeBytes in [1 << 30, 100 * 4096] as [UInt64] {
      var map = AllocationMap(sizeBytes: sizeBytes)
      for cell in 0..<AllocationMap.cellCount {
        if Int.random(in: 0...3, using: &random) > 0 {
          map.set(cell, AllocationMap.Cell.allCases.randomElement(using: &random)!)
        }
      }
      var drawn: [Int: String] = [:]
      for path in map.svg.matches(of: /class="map-(\w+)"[^>]* d="([^"]*)"/) {
        for run in path.2.matches(of: /M(\d+) (\d+)h(\d+)v1h-(\d+)z/) {
          let (x, y, width) = (Int(run.1)!, Int(run.2)!, Int(run.3)!)
          #expect(run.3 == run.4)
          for column in x..<x + width {
            #expect(drawn.updateValue(String(path.1), forKey: y * AllocationMap.columns + column) == nil)
          }
        }
      }
      #expect(drawn.count == map.usedCount)
      for (cell, kind) in drawn { #expect(kind == "\(map.cells[cell])") }
    }
  }

  /// Nothing is fetched from elsewhere, and nothing that a client chose is put in as markup.
  @Test func thePageNeedsNobodyElse() {
    let addresses = dashboardPage.matches(of: /https?:\/\/[^"]*/).map { String($0.0) }
    #expect(addresses == ["http://www.w3.org/2000/svg"])
    for word in ["innerHTML", "outerHTML", "document.write", "eval(", "import(", "<link rel=\"stylesheet\"", " src="] {
      #expect(!dashboardPage.contains(word), "\(word)")
    }
    #expect(dashboardPage.utf8.count < 32 << 10)
  }
}
