// What `holdfast map` prints.

import BlockBackend
import Testing

@testable import holdfast

@Suite struct Map {
  @Test func tableHasOneLinePerExtent() {
    var output = MapOutput(image: "a", sizeBytes: 8192, isJSON: false)
    var text = output.head
    text += output.line(0, Extent(lengthBytes: 4096, kind: .data))
    text += output.line(4096, Extent(lengthBytes: 4096, kind: .hole))
    text += output.tail
    #expect(
      text == """
          offset    length  kind
               0      4096  data
            4096      4096  hole

        """)
  }

  @Test func jsonEscapesTheNameOfTheImage() {
    var output = MapOutput(image: "a\"\\\n\u{1}é", sizeBytes: 1, isJSON: true)
    var text = output.head
    text += output.line(0, Extent(lengthBytes: 1, kind: .zero))
    text += output.tail
    #expect(
      text == #"""
        {"schema": 1, "image": "a\"\\\n\u0001é", "size": 1, "extents": [
          {"offset": 0, "length": 1, "kind": "zero"}
        ]}

        """#)
  }

  @Test func jsonOfAnEmptyImageIsClosed() {
    let output = MapOutput(image: "a", sizeBytes: 0, isJSON: true)
    #expect(output.head + output.tail == "{\"schema\": 1, \"image\": \"a\", \"size\": 0, \"extents\": [\n]}\n")
  }
}
