// Five bodies that attract each other: floating point with fields of objects.

class Body {
  constructor(
    public x: f64, public y: f64, public z: f64,
    public vx: f64, public vy: f64, public vz: f64,
    public mass: f64,
  ) {}
}

function advance(bodies: StaticArray<Body>, dt: f64): void {
  const count = bodies.length;
  for (let i = 0; i < count; ++i) {
    const a = bodies[i];
    for (let j = i + 1; j < count; ++j) {
      const b = bodies[j];
      const dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
      const square = dx * dx + dy * dy + dz * dz;
      const pull = dt / (square * Math.sqrt(square));
      a.vx -= dx * b.mass * pull;
      a.vy -= dy * b.mass * pull;
      a.vz -= dz * b.mass * pull;
      b.vx += dx * a.mass * pull;
      b.vy += dy * a.mass * pull;
      b.vz += dz * a.mass * pull;
    }
    a.x += dt * a.vx;
    a.y += dt * a.vy;
    a.z += dt * a.vz;
  }
}

export function run(): i64 {
  const bodies: StaticArray<Body> = [
    new Body(0, 0, 0, 0, 0, 0, 39.5),
    new Body(4.8, -1.2, -0.1, 0.6, 2.8, -0.02, 0.038),
    new Body(8.3, 4.1, -0.4, -1.0, 1.8, 0.008, 0.011),
    new Body(12.9, -15.1, -0.2, 1.1, 0.9, -0.01, 0.0017),
    new Body(15.4, -25.9, 0.2, 1.0, 0.6, -0.03, 0.002),
  ];
  for (let i = 0; i < 20000; ++i) advance(bodies, 0.01);
  return reinterpret<i64>(bodies[1].x) ^ reinterpret<i64>(bodies[4].vz);
}
