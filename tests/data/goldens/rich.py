"""Rich streaming model for the few series that carry a whole site or network. One pass, no look-ahead: score, then learn.

    python rich.py            # self test, timing, golden vectors -> rich_golden.csv

x: count or sum of one bucket (NaN = no data: skipped), t: epoch seconds of the bucket start, dt: bucket length 60..3600 s.
side: 0 both directions, +1 high only, -1 low only. All arithmetic in double; stored in the STATE types below."""
import math, numpy as np
from numba import njit

# ------------------------------------------------------------------ constants
ND, NW = 288, 2016            # day profile and week profile slots (5 min; longer buckets use 86400/dt slots per day)
NE = 6                        # experts of a point model: fast level, slow level, day, week, season+level, season+recent error
NU = 5.0                      # degrees of freedom of the residual law (Student t)
SHARE, V_MIN = 0.02, 0.005    # fixed share of the expert weights, slowest rate of the residual scale
NB, PO, OFF = 96, 6.0, 8.0    # histogram: 96 bins, 6 per octave, lowest edge 2^-8
FIRST, WARM, NSC = 40, 160, 2000   # values before the unit is fixed / before evidence is emitted / used for the scale
TAIL, TE, TN, EMAX = 0.03, 0.6, 3.0, 12.0
HALVE = 60000                 # histogram total at which all counts are halved
CH = ['pt', 'shift', 'record', 'week', 'day', 'logdiff', 'quiet', 'logshift', 'recshift', 'pt_season', 'pt_logseason', 'pt_both', 'pt_trend']
NC = 13                       # channels, in the order of CH
GB = 2.0                      # weight of the change group against the point group
KAP = 1.25                    # T per decade of bucket rate above one per 5 minutes
LAM, M0, N0, NR = 0.5, 2.0, 3.0, 28    # share of the usual daily maximum taken off; its reference; pseudo days; ring
CAP, SIDED = 8.0, math.log10(2.)  # most decades of one channel; what a one-sided probability is smaller by
HA, HB, HC = .5, .05, 3.0           # trend: rates of level and slope, clip in scales
YOUNG = 1.2                         # taken off on the first day, half of it on the second
T0, T75, T100 = 1.0, 2.6, 5.6          # score map
LN10 = math.log(10.0)

PM = np.dtype([('ew', 'f4', NE), ('v', 'f4', NE), ('h', 'f4', 24)])                                    # one point model
HIST = np.dtype([('n', 'u4'), ('r0', 'f4'), ('k', 'u4'), ('s1', 'f4'), ('s2', 'f4'), ('h', 'u2', NB)])      # one calibrator
STATE = np.dtype([
    ('s', 'f4', ND), ('sn', 'u1', ND), ('w', 'f4', NW), ('wn', 'u1', NW),            # profiles of the point models
    ('ds', 'f4', 96), ('dc', 'u1', 96), ('ws', 'f4', 336), ('wc', 'u1', 336),        # coarse profiles (15 / 30 min slots)
    ('pm', PM, 5), ('c', HIST, NC), ('ring', 'f4', NR),
    ('tl', 'f4'), ('ts', 'f4'), ('xm', 'f4'), ('px', 'f4'), ('lf', 'f4'), ('lg', 'f4'), ('ls', 'f4'), ('b', 'f4'), ('rf', 'f4'),
    ('a1', 'f4'), ('b1', 'f4'), ('a2', 'f4'), ('b2', 'f4'), ('a3', 'f4'), ('b3', 'f4'),
    ('lo', 'f4'), ('hi', 'f4'), ('rlo', 'f4'), ('rhi', 'f4'),
    ('wm', 'f4'), ('dm', 'f4'), ('wsd', 'f4'), ('dsd', 'f4'), ('wk', 'u4'), ('dk', 'u4'), ('qv', 'f4'), ('q1', 'f8'), ('q2', 'f8'),
    ('dmx', 'f4'), ('off', 'f4'), ('nr', 'u1'), ('rp', 'u1'), ('cday', 'i4'), ('last', 'i8'), ('nob', 'u4')])

@njit(cache=True)
def lt10(z, nu):
    """-log10 P(|t_nu| > z), z >= 0, by a normalising transform (Wallace)"""
    s = math.sqrt(nu*math.log1p(z*z/nu))*(8*nu+1)/(8*nu+3); x = s/math.sqrt(2.)
    if x < 3: return -math.log10(max(math.erfc(x), 1e-300))
    return (x*x + math.log(x*math.sqrt(math.pi)) - math.log(1-1/(2*x*x)))/LN10

@njit(cache=True)
def slog(x, g): return math.log1p(x/g) if x >= 0 else -math.log1p(-x/g)

@njit(cache=True)
def clip(v, a): return min(max(v, -a), a)

@njit(cache=True)
def evidence(C, v, floor):
    """-log10 p of v >= 0 against its own past, then learn v"""
    if C.n < FIRST:                                                     # the unit r0: standard deviation of the first 40 values
        C.s1 += v; C.s2 += v*v; C.n += 1
        if C.n == FIRST:
            C.r0 = max(math.sqrt(max(C.s2/FIRST - (C.s1/FIRST)**2, 0.)), floor); C.s1 = 0; C.s2 = 0
        return 0.
    u = min(v/C.r0, 250.); o = 0.
    if C.k < NSC: C.k += 1; C.s1 += u; C.s2 += u*u
    b = max(0, min(NB-1, int(math.floor(PO*(math.log2(u + 1e-9) + OFF))))); n = float(C.n - FIRST)
    if C.n >= WARM:
        sc = max(math.sqrt(max(C.s2/C.k - (C.s1/C.k)**2, 0.)), floor/C.r0)
        k = 0.; ex = 0.; j = NB-1; lim = max(TAIL*n, 1.)
        while j > 0 and k + C.h[j] <= lim:                              # the top 3 %
            if C.h[j] > 0: k += C.h[j]; ex += C.h[j]*2**((j + .5)/PO - OFF)
            j -= 1
        th = 2**((j + 1)/PO - OFF)
        e = max((ex - k*th + TN*TE*sc)/(k + TN), 0.) + .02*sc             # mean excess with 3 pseudo values of 0.6 sc
        if u > th: o = -math.log10((k + 1)/(n + 1)) + (u - th)/e/LN10
        else:
            for q in range(b, j+1): k += C.h[q]
            o = -math.log10((k + 1)/(n + 1))
    C.h[b] += 1; C.n += 1
    if C.n > HALVE:
        m = 0
        for q in range(NB): C.h[q] = C.h[q]//2; m += C.h[q]
        C.n = m + FIRST
    return min(max(o, 0.), EMAX)

@njit(cache=True)
def point(M, x, mu, ne, hk, log, g, hr, nob):
    """signed surprise: smallest over the experts of -log10(tail) - log10(weight); then learn weights, scales, hour factor"""
    y = slog(x, g) if log else x; h = M.h[hr] if hk >= 0 else 1.
    z = np.empty(ne); lw = np.empty(ne); best = 1e300; sg = 1.; mx = -1e300
    for k in range(ne):
        r = y - (slog(mu[k], g) if log else mu[k]); s = math.sqrt(M.v[k])*h + 1e-9; z[k] = r/s
        e = lt10(abs(z[k]), NU) - math.log10(max(M.ew[k], 1e-12))
        if e < best: best = e; sg = 1. if r >= 0 else -1.
        lw[k] = math.log(max(M.ew[k], 1e-12)) - math.log(s) - .5*(NU + 1)*math.log1p(z[k]*z[k]/NU); mx = max(mx, lw[k])
    tot = 0.
    for k in range(ne): lw[k] = math.exp(lw[k] - mx); tot += lw[k]
    al = max(V_MIN, 1/(nob + 2))
    for k in range(ne):
        M.ew[k] = (1 - SHARE)*lw[k]/tot + SHARE/ne; z2 = z[k]*z[k]
        r = z[k]*(math.sqrt(M.v[k]) + 1e-9/h)
        M.v[k] = max((1 - al)*M.v[k] + al*min((NU + 1)/(NU + z2), 1.5)*r*r, 1e-8)
    if hk >= 0: M.h[hr] = min(max(M.h[hr] + .01*(1.2*min(abs(z[hk])*h, 3.) - M.h[hr]), .3), 3.)
    return sg*min(max(best, 0.), 60.)

@njit(cache=True)
def init(S):
    S.sn[:] = 0; S.wn[:] = 0; S.dc[:] = 0; S.wc[:] = 0; S.nob = 0; S.cday = -1; S.ring[:] = 0

@njit(cache=True)
def step(S, t, x, dt, side, out):
    """out: 0 T, 1 score, 2 point group, 3 change group, 4.. the channels' evidence"""
    out[:] = 0.
    if math.isnan(x): return
    nob = float(S.nob); sec = t % 86400; dow = int((t//86400 + 4) % 7); hr = int(sec//3600); nd = int(min(ND, max(24, 86400//dt)))
    a = int(sec*nd//86400); q = dow*nd + a
    n48 = min(nd, 48); n96 = min(nd, 96); ai = int(sec*n96//86400); wi = dow*n48 + int(sec*n48//86400)
    if S.nob == 0:
        S.xm = abs(x); S.px = x; S.lf = x; S.lg = x; S.ls = x; S.b = 0; S.rf = 0; S.a1 = x; S.b1 = x; S.a3 = x; S.b3 = x; S.lo = x; S.hi = x
        S.a2 = slog(x, .1*S.xm + 1e-9); S.b2 = S.a2; S.rlo = 0; S.rhi = 0
        S.tl = x; S.ts = 0
        for m in range(5):
            v0 = max((.1*abs(x))**2 if m != 2 else (slog(1.1*x, .1*S.xm + 1e-9) - S.a2)**2, 1e-6)
            for k in range(NE): S.pm[m].v[k] = v0; S.pm[m].ew[k] = 1./(4 if m == 0 else 2 if m == 3 else 1 if m == 4 else NE)
            S.pm[m].h[:] = 1
    elif t - S.last > 8*dt: S.rf = 0
    S.xm += max(1/(nob + 1), 1/(14.*nd))*(abs(x) - S.xm); g = .1*S.xm + 1e-9
    yl = slog(x, g); hasd = S.sn[a] > 0; mu = np.empty(NE); v = np.zeros(NC); fl = np.empty(NC)
    # -- predictions, three point models
    day = S.s[a] if hasd else S.lf; week = S.w[q] if S.wn[q] > 0 else day; sea = .5*(day + week)
    mu[0] = S.lf; mu[1] = S.ls; mu[2] = day; mu[3] = week
    mu[4] = sea + S.b if hasd else S.lf; mu[5] = sea + S.rf if hasd else S.lg
    v[0] = point(S.pm[0], x, mu, 4, -1, False, g, hr, nob); v[9] = point(S.pm[1], x, mu, NE, 5, False, g, hr, nob); v[10] = point(S.pm[2], x, mu, NE, 5, True, g, hr, nob)
    trend = S.tl + S.ts; tr = np.empty(2); tr[0] = mu[5]; tr[1] = trend
    v[11] = point(S.pm[3], x, tr, 2, 0, False, g, hr, nob); v[12] = point(S.pm[4], x, tr[1:], 1, -1, False, g, hr, nob); fl[11] = .1; fl[12] = .1
    fl[0] = .1; fl[9] = .1; fl[10] = .1
    # -- change channels
    rg = (S.hi - S.lo)*.002 + 1e-9
    S.a1 += max(2/25., 1/(nob + 1))*(x - S.a1); v[1] = S.a1 - S.b1; fl[1] = rg; S.b1 += max(2/801., 1/(nob + 1))*(x - S.b1)
    r0 = max(S.hi - S.lo, 1e-9); fl[2] = .05
    if x > S.hi: v[2] = min((x - S.hi)/r0, 1.) if nob >= 40 else 0.; S.hi = x
    elif x < S.lo: v[2] = -min((S.lo - x)/r0, 1.) if nob >= 40 else 0.; S.lo = x
    hd = S.dc[ai] > 0; rd = x - S.ds[ai] if hd else 0.; rw = x - S.ws[wi] if S.wc[wi] > 0 else rd
    if hd:
        al = max(.002, 1/(S.wk + 2.)); S.wsd += al*(abs(rw) - S.wsd) if (S.wk == 0 or abs(rw) < 6*S.wsd) else al*5*S.wsd; S.wk += 1
        al = max(.002, 1/(S.dk + 2.)); S.dsd += al*(abs(rd) - S.dsd) if (S.dk == 0 or abs(rd) < 6*S.dsd) else al*5*S.dsd; S.dk += 1
    S.wm += 2/49.*(clip(rw, 8*S.wsd) - S.wm); v[3] = S.wm; fl[3] = rg
    S.dm += 2/65.*(clip(rd, 8*S.dsd) - S.dm); v[4] = S.dm; fl[4] = rg
    v[5] = yl - slog(S.px, g); fl[5] = .02
    if nob < WARM: S.q1 += x; S.q2 += x*x
    m = min(nob + 1, WARM); sd = math.sqrt(max(S.q2/m - (S.q1/m)**2, 0.)) + 1e-9
    if nob > 0: S.qv += max(2/37., 1/(nob + 1))*(abs(x - S.px) - S.qv)
    v[6] = 1/(S.qv/sd + .02) if side == 0 else 0.; fl[6] = .1
    S.a2 += max(2/7., 1/(nob + 1))*(yl - S.a2); v[7] = S.a2 - S.b2; fl[7] = .02; S.b2 += max(2/201., 1/(nob + 1))*(yl - S.b2)
    S.a3 += max(2/13., 1/(nob + 1))*(x - S.a3); d = S.a3 - S.b3; S.b3 += max(2/301., 1/(nob + 1))*(x - S.b3)
    r0 = max(S.rhi - S.rlo, 1e-9); fl[8] = .05
    if d > S.rhi: v[8] = min((d - S.rhi)/r0, 1.) if nob >= 40 else 0.; S.rhi = d
    elif d < S.rlo: v[8] = -min((S.rlo - d)/r0, 1.) if nob >= 40 else 0.; S.rlo = d
    # -- evidence, groups, T, score
    for c in range(NC):
        out[4+c] = evidence(S.c[c], abs(v[c]) if side == 0 else max(side*v[c], 0.), fl[c])
    d = np.empty(NC)
    for c in range(NC): d[c] = max(min(out[4+c], CAP) - (SIDED if side != 0 else 0.), 0.)
    P = (d[0] + d[5] + d[9] + d[10] + d[11] + d[12])/6; G = 0.
    for c in range(9): G += d[c]
    G /= 9 if side == 0 else 8
    Q = max(P, GB*G)
    day_ = t//86400
    if day_ != S.cday:
        if S.cday >= 0:
            S.ring[S.rp] = S.dmx; S.rp = (S.rp + 1) % NR; S.nr = min(S.nr + 1, NR)
            r = np.sort(S.ring[:S.nr].copy()); S.off = LAM*(r[S.nr//2] - (M0 + KAP*math.log10(300./min(dt, 300))))*S.nr/(S.nr + N0)
        S.cday = day_; S.dmx = 0
    S.dmx = max(S.dmx, Q)
    T = Q - KAP*math.log10(300./min(dt, 300)) - S.off - YOUNG/(1 + S.nr)
    out[0] = T; out[2] = P; out[3] = G
    out[1] = 0. if T <= T0 else (75*(T - T0)/(T75 - T0) if T < T75 else min(75 + 25*(T - T75)/(T100 - T75), 100.))
    # -- learn levels and profiles
    r = clip(x - trend, HC*math.sqrt(S.pm[4].v[0])); S.tl = trend + HA*r; S.ts += HB*r if nob > 2 else 0.
    S.lf += max(.3, 1/(nob + 1))*(x - S.lf); S.lg += max(.6, 1/(nob + 1))*(x - S.lg); S.ls += max(.02, 1/(nob + 1))*(x - S.ls); S.px = x
    if hasd: r = x - sea; S.b += .02*(clip(r, 4*math.sqrt(S.pm[1].v[4])) - S.b); S.rf += .3*(r - S.rf)
    lim = 4*math.sqrt(S.pm[1].v[2]); al = .25*min(dt/300., 1.)
    r = x - S.s[a] if hasd else x; S.s[a] = r if not hasd else S.s[a] + max(al, 1/(S.sn[a] + 1.))*(clip(r, lim) if S.sn[a] > 1 else r); S.sn[a] = min(S.sn[a] + 1, 250)
    r = x - S.w[q] if S.wn[q] > 0 else x; S.w[q] = r if S.wn[q] == 0 else S.w[q] + max(al, 1/(S.wn[q] + 1.))*(clip(r, lim) if S.wn[q] > 1 else r); S.wn[q] = min(S.wn[q] + 1, 250)
    S.ws[wi] = x if S.wc[wi] == 0 else S.ws[wi] + max(.3, 1/(S.wc[wi] + 1.))*(x - S.ws[wi]); S.wc[wi] = min(S.wc[wi] + 1, 250)
    S.ds[ai] = x if not hd else S.ds[ai] + max(.1, 1/(S.dc[ai] + 1.))*(x - S.ds[ai]); S.dc[ai] = min(S.dc[ai] + 1, 250)
    S.nob += 1; S.last = t

@njit(cache=True)
def run(S, t, x, dt, side):
    n = len(x); out = np.zeros((n, 4 + NC))
    for i in range(n): step(S, t[i], x[i], dt, side, out[i])
    return out

def model():
    S = np.zeros(1, STATE)[0]; init(S); return S
def series(t, x, dt, side=0): return run(model(), np.asarray(t, np.int64), np.asarray(x, float), int(dt), side)
def bar(s, hold=100, kap=.5, tau=100.):
    """optional incident gate on a series of T or scores (used for NAB only)"""
    o = np.zeros(len(s)); lv = 0.; ls = -10**9
    for i in range(len(s)):
        d = i - ls; b = lv if d < hold else lv*kap*math.exp(-(d - hold)/tau)
        if s[i] > b: o[i] = s[i]; lv = s[i]; ls = i
    return o

if __name__ == '__main__':
    import time
    assert STATE.itemsize <= 65536; print('state bytes (packed)', STATE.itemsize)
    n = 6048; dt = 300; t = 1772409600 + dt*np.arange(n, dtype=np.int64); s = 2463534242; x = np.empty(n)      # xorshift32 noise on a day/week pattern
    for i in range(n):
        s ^= (s << 13) & 0xffffffff; s ^= s >> 17; s ^= (s << 5) & 0xffffffff
        x[i] = math.floor((20000 if (i//288) % 7 < 5 else 9000)*(1.2 + math.sin((i % 288)/288*2*math.pi))*(0.9 + 0.2*s/4294967296.0))
    x[1500:1510] = np.nan; x[3000:3003] *= 1.6; x[3500:3504] *= .4; x[4200:4230] *= 1.3; x[5000:] *= 1.4; x[5600:5604] = 0
    cols = 'T,score,P,G,' + ','.join(CH[:NC])
    with open('rich_golden.csv', 'w') as f:
        f.write('side,dt,i,t,x,' + cols + '\n')
        for side in (0, 1):
            o = series(t, x, dt, side)
            for i in range(n):
                if i < 60 or i % 7 == 0 or o[i, 1] > 50 or 1495 < i < 1520: f.write(f'{side},{dt},{i},{t[i]},{x[i]:.0f},' + ','.join(f'{v:.6g}' for v in o[i]) + '\n')
    o = series(t, x, dt, 0); S = model(); a = run(S, t[:3100], x[:3100], dt, 0); S2 = np.frombuffer(bytearray(S.tobytes()), STATE)[0]; b = run(S2, t[3100:], x[3100:], dt, 0)
    print('save/load bit-identical:', bool((np.vstack([a, b]) == o).all()))
    t0 = time.time(); [series(t, x, dt, 0) for _ in range(10)]; print('us/update', round((time.time() - t0)/10/n*1e6, 2))
    for a in (2990, 3000, 3500, 4200, 5000, 5600): print(a, o[a:a+5, 1].round(0))
