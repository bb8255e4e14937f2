// Dots on a canvas over the picture. Each dot is one recorded step of a message, shown one second late.

const RADIUS = 4.5;
/** Milliseconds between a step and its dot. */
const DELAY = 1000;
/** Milliseconds for which a step waits for the step before it. A confirm may be recorded after the delivery. */
const HOLD = 2500;

class Dots {
  /** The dots that move or wait for their start, each with its order, its edge and, once drawn, its place. */
  moving = [];
  #stage = null; #canvas = null; #paths = new Map(); #arrivals = new Map(); #waiting = new Map(); #isPaused = false; #pausedAt = 0; #frame = 0; #colors = {};

  /** Draw over the picture in `stage`. */
  start(stage) {
    this.#stage = stage;
    this.#canvas = stage.querySelector("[data-dots]");
    new ResizeObserver(() => this.#resize()).observe(stage);
    this.#resize();
  }

  /** Forget the edges of an earlier picture. */
  forget() {
    this.#paths.clear();
    this.moving = [];
    this.#resize();
  }

  pause(isOn) {
    if (isOn && !this.#isPaused) this.#pausedAt = performance.now();
    if (!isOn && this.#isPaused) {
      const gap = performance.now() - this.#pausedAt;
      for (const dot of this.moving) dot.start += gap;
    }
    this.#isPaused = isOn;
    this.#wake();
  }

  /** Show the steps of a frame. Dots of one order follow each other: none leaves a node before it has arrived there. */
  replay(frame, names) {
    const { steps } = frame, now = performance.now();
    for (const [after, number, kind, attempt, ...edges] of steps.moves) {
      const order = steps.orders[number], due = now + Math.max(0, DELAY - (frame.time * 1000 - steps.time - after));
      if (!this.#waiting.has(order)) this.#waiting.set(order, []);
      this.#waiting.get(order).push({ due, kind, attempt, edges: edges.map((one) => names[one]), latest: now + HOLD });
    }
    for (const one of this.#waiting.values()) one.sort((first, second) => first.due - second.due);
    this.advance();
  }

  /** Start the dots of all steps whose message has reached its node. The step before may come with the next frame. */
  advance() {
    const now = performance.now();
    if (this.moving.length || this.#waiting.size) this.#resolveColors();
    for (const [order, steps] of this.#waiting) {
      while (steps.length) {
        const { due, kind, attempt, edges, latest } = steps[0], [source] = this.#ends(edges[0]);
        const arrival = this.#arrivals.get(`${order} ${source}`);
        const isFirst = kind === "published" && !attempt;
        if (arrival === undefined && !isFirst && now < latest) break;
        steps.shift();
        this.#send(order, edges, Math.max(due, now, arrival || 0));
      }
      if (!steps.length) this.#waiting.delete(order);
    }
    if (this.#arrivals.size > 5000) this.#arrivals = new Map([...this.#arrivals].slice(-2000));
    this.#wake();
  }

  #send(order, edges, at) {
    const reached = new Map();
    for (const edge of edges) {
      const [source, target] = this.#ends(edge);
      const end = this.move(order, edge, reached.get(source) ?? at, this.#duration(edge));
      if (end === null) continue;
      reached.set(target, end);
      this.#arrivals.set(`${order} ${target}`, end);
    }
  }

  /** Move one dot along an edge. Return the time of its arrival, or null if the picture has no such edge. */
  move(order, edge, start, duration) {
    const path = this.#path(edge);
    if (!path) return null;
    this.moving.push({ order, edge, path: path.path, length: path.length, start, end: start + duration });
    this.#wake();
    return start + duration;
  }

  /** Remove all dots, for example before another step of slow motion. */
  clear() {
    this.moving = [];
    this.#wake();
  }

  /** Return the id of the order whose dot is under the pointer, or null. */
  orderAt(event) {
    if (!this.moving.length) return null;
    const box = this.#canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const found = this.moving.find((dot) => dot.x !== undefined && Math.hypot(dot.x - x, dot.y - y) <= RADIUS + 6);
    return found ? found.order : null;
  }

  /** Return the ids of both nodes of an edge. The names of nodes may contain the sign between them. */
  #ends(name) {
    const path = this.#path(name)?.path;
    if (path) return [path.dataset.from, path.dataset.to];
    const at = name.indexOf(">");
    return [name.slice(0, at), name.slice(at + 1)];
  }

  #duration(name) {
    const path = this.#path(name);
    return path ? Math.min(1600, Math.max(500, path.length * 2.2)) : 0;
  }

  #path(name) {
    if (!this.#paths.has(name)) {
      const path = this.#stage.querySelector(`[data-edge="${CSS.escape(name)}"]`);
      this.#paths.set(name, path ? { path, length: path.getTotalLength() } : null);
    }
    return this.#paths.get(name);
  }

  #resize() {
    const box = this.#stage.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    this.#canvas.width = box.width * ratio;
    this.#canvas.height = box.height * ratio;
    this.#resolveColors();
  }

  /** Read the colors of the current theme. A custom property holds light-dark(…), which only an element resolves. */
  #resolveColors() {
    for (const name of ["accent", "warn", "bad"]) {
      this.#canvas.style.color = `var(--${name})`;
      this.#colors[name] = getComputedStyle(this.#canvas).color;
    }
  }

  #wake() {
    if (!this.#frame && this.moving.length && !this.#isPaused) this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now) {
    this.#frame = 0;
    const context = this.#canvas.getContext("2d"), ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    const box = this.#canvas.getBoundingClientRect();
    this.moving = this.moving.filter((dot) => {
      if (now < dot.start) return true;
      if (now >= dot.end) {
        dot.path.dispatchEvent(new CustomEvent("dot", { bubbles: true, detail: { order: dot.order, edge: dot.edge } }));
        return false;
      }
      const part = (now - dot.start) / (dot.end - dot.start);
      const point = dot.path.getPointAtLength(dot.length * part).matrixTransform(dot.path.getScreenCTM());
      dot.x = point.x - box.left;
      dot.y = point.y - box.top;
      const isRetry = dot.edge.includes(">retry "), isDead = dot.edge.includes(">dead ");
      context.beginPath();
      context.arc(dot.x, dot.y, RADIUS, 0, 2 * Math.PI);
      context.fillStyle = isDead ? this.#colors.bad : isRetry ? this.#colors.warn : this.#colors.accent;
      context.fill();
      if (isRetry || isDead) { dot.path.dataset.used = "1"; dot.path.classList.remove("none"); }
      return true;
    });
    if (this.moving.length && !this.#isPaused) this.#frame = requestAnimationFrame((later) => this.#draw(later));
    else if (!this.moving.length) {
      context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
      for (const path of this.#stage.querySelectorAll("[data-used]")) delete path.dataset.used;
    }
  }
}

export const dots = new Dots();
