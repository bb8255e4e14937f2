// Return a sentence for each text of the page that is cut, covered, or outside of the shapes of its node,
// or that overlaps another text.
(tolerance) => {
  const SHAPES = "rect, path, polygon, circle, ellipse"

  function shortened(text) {
    const line = text.replace(/\s+/g, " ").trim()
    return JSON.stringify(line.length > 40 ? line.slice(0, 39) + "…" : line)
  }

  // The element and its two parents, as a selector.
  function place(element) {
    const parts = []
    for (let one = element; one && one !== document.body && parts.length < 3; one = one.parentElement) {
      parts.unshift(one.localName + (one.id && `#${one.id}`) + [...one.classList].map((name) => `.${name}`).join(""))
    }
    return parts.join(" ")
  }

  function union(boxes) {
    return {
      left: Math.min(...boxes.map((box) => box.left)), right: Math.max(...boxes.map((box) => box.right)),
      top: Math.min(...boxes.map((box) => box.top)), bottom: Math.max(...boxes.map((box) => box.bottom)),
    }
  }

  function intersection(one, other) {
    return {
      left: Math.max(one.left, other.left), right: Math.min(one.right, other.right),
      top: Math.max(one.top, other.top), bottom: Math.min(one.bottom, other.bottom),
    }
  }

  // By how many pixels a box leaves another one.
  function excess(box, outer) {
    return Math.max(outer.left - box.left, box.right - outer.right, outer.top - box.top, box.bottom - outer.bottom)
  }

  // The box of a line also contains the ascent and descent of the font, which most letters leave empty.
  function ink(box) {
    return { left: box.left, right: box.right, top: box.top + 0.15 * box.height, bottom: box.bottom - 0.1 * box.height }
  }

  // Chromium lays out the texts of an SVG group that is not displayed, and calls them visible.
  function isInHiddenGroup(element) {
    for (let one = element.closest("svg *"); one && one.localName !== "svg"; one = one.parentElement) {
      if (getComputedStyle(one).display === "none") return true
    }
    return false
  }

  // The texts that a person can use now. Only the last modal dialog can be used while it is open.
  function visibleTexts() {
    const texts = []
    const root = [...document.querySelectorAll("dialog:modal")].at(-1) ?? document.body
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
      const node = walker.currentNode, element = node.parentElement
      const isDrawn = element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !isInHiddenGroup(element)
      if (!node.data.trim() || !isDrawn || element.closest("select, textarea, script, style, title, desc")) continue
      const range = document.createRange()
      range.selectNodeContents(node)
      const lines = [...range.getClientRects()].filter((box) => box.width > 1 && box.height > 1).map(ink)
      if (lines.length) texts.push({ node, element, lines, words: shortened(node.data) })
    }
    return texts
  }

  // The area of an element in which its content is visible, and the axes on which the content scrolls.
  function frameOf(element) {
    const style = getComputedStyle(element), outer = element.getBoundingClientRect()
    const isPicture = element instanceof SVGElement
    if (isPicture ? !element.matches("svg, foreignObject") : style.display === "inline") return null
    const left = outer.left + (isPicture ? 0 : element.clientLeft), top = outer.top + (isPicture ? 0 : element.clientTop)
    const area = { left: -Infinity, right: Infinity, top: -Infinity, bottom: Infinity }
    if (style.overflowX !== "visible") {
      Object.assign(area, { left, right: isPicture ? outer.right : left + element.clientWidth })
    }
    if (style.overflowY !== "visible") {
      Object.assign(area, { top, bottom: isPicture ? outer.bottom : top + element.clientHeight })
    }
    return { area, scrolls: { x: /auto|scroll/.test(style.overflowX), y: /auto|scroll/.test(style.overflowY) } }
  }

  // Set the area in which a text can be seen now, and return the sentence about a part that can never be seen.
  function cut(text) {
    const box = union(text.lines)
    text.shown = { left: -scrollX, right: Infinity, top: -scrollY, bottom: Infinity }
    // A link to a part of the page, which is outside of the page until it has the focus.
    const isSkipLink = text.element.matches('a[href^="#"]') && (box.right <= text.shown.left || box.bottom <= text.shown.top)
    const page = text.shown
    let sentence = ""
    const scrolls = { x: false, y: false }
    for (let one = text.element; one && one !== document.body; one = one.parentElement) {
      const frame = frameOf(one)
      if (!frame) continue
      // Boxes of one pixel contain texts for screen readers.
      if (Math.min(frame.area.right - frame.area.left, frame.area.bottom - frame.area.top) <= 2) {
        text.shown = null
        return ""
      }
      text.shown = intersection(text.shown, frame.area)
      scrolls.x ||= frame.scrolls.x
      scrolls.y ||= frame.scrolls.y
      const x = scrolls.x ? 0 : Math.max(frame.area.left - box.left, box.right - frame.area.right)
      const y = scrolls.y ? 0 : Math.max(frame.area.top - box.top, box.bottom - frame.area.bottom)
      if (Math.max(x, y) > tolerance && !sentence) {
        sentence = `${text.words} is cut by ${Math.round(Math.max(x, y))} px: ${place(text.element)}`
      }
    }
    // What is scrolled out of a list may be anywhere.
    const left = scrolls.x ? 0 : page.left - box.left, top = scrolls.y ? 0 : page.top - box.top
    if (Math.max(left, top) > tolerance && !isSkipLink) sentence = `${text.words} leaves the page: ${place(text.element)}`
    const titled = text.element.closest("[title]")
    return titled && titled.title.includes(text.node.data.trim()) ? "" : sentence
  }

  function departure(text) {
    const node = text.element.closest("g.node")
    if (!node) return ""
    const pixels = excess(union(text.lines), union([...node.querySelectorAll(SHAPES)].map((one) => one.getBoundingClientRect())))
    return pixels > tolerance ? `${text.words} leaves its node by ${Math.round(pixels)} px: ${place(node)}` : ""
  }

  function isOpaque(element) {
    const style = getComputedStyle(element)
    const isPicture = element instanceof SVGElement
    const color = isPicture ? (element.matches(SHAPES) && style.fillOpacity === "1" ? style.fill : "none") : style.backgroundColor
    const alpha = /^rgba\(.*, ([\d.]+)\)$|\/ ([\d.]+)\)$/.exec(color)
    return color !== "none" && style.opacity === "1" && (!alpha || Number(alpha[1] ?? alpha[2]) === 1)
  }

  // True if an element, or a parent that a text does not have, is positioned, as menus and dialogs are.
  function isRaised(element, text) {
    for (let one = element; one && !one.contains(text.element); one = one.parentElement) {
      if (getComputedStyle(one).position !== "static") return true
    }
    return false
  }

  // The opaque elements that are drawn over a text at a point, which may be outside of the window.
  function covers(text, x, y) {
    const [left, top] = [scrollX, scrollY]
    if (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight) {
      scrollTo({ left: left + x - innerWidth / 2, top: top + y - innerHeight / 2, behavior: "instant" })
    }
    const stack = document.elementsFromPoint(x - (scrollX - left), y - (scrollY - top))
    scrollTo({ left, top, behavior: "instant" })
    const depth = stack.findIndex((element) => text.element.contains(element))
    return stack.slice(0, depth < 0 ? stack.length : depth).filter((one) => isOpaque(one) && !one.contains(text.element))
  }

  function isUnderMenu(text, x, y) {
    return covers(text, x, y).some((element) => isRaised(element, text))
  }

  // A text of which a part is behind something opaque. What a menu covers can be seen again when the menu is closed.
  function hidden(text) {
    if (!text.shown) return ""
    for (const line of text.lines.map((one) => intersection(one, text.shown))) {
      if (line.right - line.left <= 2 * tolerance || line.bottom <= line.top) continue
      const y = (line.top + line.bottom) / 2
      for (const x of [line.left + tolerance, (line.left + line.right) / 2, line.right - tolerance]) {
        const cover = covers(text, x, y).find((element) => !isRaised(element, text))
        if (cover) return `${text.words} is behind ${place(cover)}: ${place(text.element)}`
      }
    }
    return ""
  }

  function overlaps(texts) {
    const sentences = []
    const lines = texts.filter((text) => text.shown)
      .flatMap((text) => text.lines.map((line) => ({ text, box: intersection(line, text.shown) })))
      .filter(({ box }) => box.right > box.left && box.bottom > box.top)
      .sort((one, other) => one.box.left - other.box.left)
    lines.forEach((one, index) => {
      for (const other of lines.slice(index + 1)) {
        if (other.box.left > one.box.right - tolerance) break
        const common = intersection(one.box, other.box)
        const width = common.right - common.left, height = common.bottom - common.top
        if (one.text === other.text || width <= tolerance || height <= tolerance) continue
        const x = common.left + width / 2, y = common.top + height / 2
        if (isUnderMenu(one.text, x, y) || isUnderMenu(other.text, x, y)) continue
        one.text.overlaps = other.text.overlaps = true
        sentences.push(`${one.text.words} overlaps ${other.text.words} by ${Math.round(width)} × ${Math.round(height)} px: `
          + `${place(one.text.element)}, ${place(other.text.element)}`)
      }
    })
    return sentences
  }

  // Elements that ignore the pointer would be absent from elementsFromPoint().
  const sheet = new CSSStyleSheet()
  sheet.replaceSync("* { pointer-events: auto !important }")
  document.adoptedStyleSheets.push(sheet)
  const texts = visibleTexts()
  const page = document.documentElement
  const sentences = page.scrollWidth > page.clientWidth
    ? [`the page is ${page.scrollWidth} px wide in a window of ${page.clientWidth} px`] : []
  for (const text of texts) sentences.push(cut(text), departure(text))
  sentences.push(...overlaps(texts), ...texts.map((text) => text.overlaps ? "" : hidden(text)))
  document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet)
  return sentences.filter(Boolean)
}
