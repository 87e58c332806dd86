"""The panel of controls at the left of the window: what it shows it reads from the player, what is moved it sets there."""
# The names of polyscope.imgui are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polyscope as ps
import polyscope.imgui as imgui

from hodsim.fem import Rayleigh
from hodsim.reduced import ReducedModel
from hodsim.viewer.body import Body
from hodsim.viewer.colour import FIELDS
from hodsim.viewer.dial import RADIUS, dial
from hodsim.viewer.film import LiveFilm
from hodsim.viewer.history import History
from hodsim.viewer.player import Player
from hodsim.viewer.plots import Plots
from hodsim.viewer.recording import SCHEMES
from hodsim.viewer.scene import COLOURS, Scene
from hodsim.viewer.theme import FAINT, LIGHTS, WARNING, light

WIDTH, LABELS, COLUMNS = 344, 96, (36, 186, 268)
LARGEST_LOAD = 1.0  # of a slider, in units of the training loads
DTS = (0.001, 0.05)  # [s] the shortest and the longest time step
MOST_DAMPING = Rayleigh(mass=10.0, stiffness=0.05)


class Panel:
    """Widgets for a player and its scene. `act` draws them; call it once a frame."""

    def __init__(self, player: Player, scene: Scene, title: str):
        self.player, self.scene, self.title = player, scene, title
        self.message = "Drag the body with the mouse; Shift on letting go pins it there. F pushes, space pauses, S steps, R resets."
        self.history = History(player)
        self._plots = Plots(player, self.history)
        self._trust: dict[str, tuple[int, float] | None] = {}
        self.film: LiveFilm | None = None
        self.speed, self.frames = 0.0, 0.0  # simulated seconds and frames a real second

    def observe(self, elapsed: float, simulated: float) -> None:
        """Take a frame's real and simulated seconds, and the values that are plotted."""
        elapsed = max(elapsed, 1e-6)
        self.speed += min(1.0, elapsed) * (simulated / elapsed - self.speed)  # smoothed over about a second
        self.frames += min(1.0, elapsed) * (1 / elapsed - self.frames)
        if simulated or not self._trust:
            self.history.note()
            self._trust = {body.name: body.trust for body in self.player.bodies}

    def act(self) -> None:
        _, height = ps.get_window_size()
        with light():
            self._plots.act()
            imgui.SetNextWindowPos((16, 16), imgui.ImGuiCond_Once)
            imgui.SetNextWindowSizeConstraints((WIDTH, 0), (WIDTH, height - 32))  # what does not fit is scrolled to
            frame = imgui.ImGuiWindowFlags_AlwaysAutoResize | imgui.ImGuiWindowFlags_NoResize | imgui.ImGuiWindowFlags_NoCollapse
            imgui.Begin(self.title, frame)
            self._clock()
            self._bodies()
            self._loads()
            self._stepping()
            self._poses()
            self._looks()
            self._keep()
            imgui.End()

    def _clock(self) -> None:
        player = self.player
        imgui.BeginDisabled(player.trouble is not None)
        if imgui.Button("Run" if player.paused else "Pause", (100, 0)):
            player.toggle()
        imgui.SameLine()
        if imgui.Button("Step", (100, 0)):
            player.single_step()
        imgui.EndDisabled()
        imgui.SameLine()
        if imgui.Button("Reset", (100, 0)):
            player.start_over()
        if player.trouble is not None:
            imgui.PushTextWrapPos(0.0)
            imgui.TextColored(WARNING, f"Stopped at {player.time:.2f} s. {player.trouble}. Take load off, then reset.")
            imgui.PopTextWrapPos()
        elif player.compilation is not None:
            still = f"compiling the fast step, once on a machine: {player.compilation.seconds:.0f} s"
            imgui.TextColored(FAINT, "the fast step did not compile; steps are slow" if player.compilation.done else still)
        elif player.replaying is not None:
            imgui.ProgressBar(player.recording.steps / player.replaying.steps, (-1.0, 0.0), "replaying")
        imgui.Text(f"{player.time:.2f} s")
        for column, text in zip(COLUMNS[1:], (f"{self.speed:.2f} x real", f"{self.frames:.0f} fps"), strict=True):
            imgui.SameLine(column)
            imgui.Text(text)

    def _bodies(self) -> None:
        """What each body costs, and how far it is from the full model."""
        for body, colour in zip(self.player.bodies, COLOURS, strict=False):
            imgui.ColorButton(body.name, (*colour, 1.0), imgui.ImGuiColorEditFlags_NoTooltip, (14, 14))
            cost = f"{np.median(body.milliseconds):.2f} ms" if body.milliseconds else "-"
            for column, text in zip(COLUMNS, (body.name, cost, f"{body.state.iterations} it."), strict=True):
                imgui.SameLine(column)
                imgui.Text(text)
            self._errors(body)

    def _errors(self, body: Body) -> None:
        """A line with the tip error, where the full model is there, and the light of the error indicator, where there is one."""
        trust = self._trust.get(body.name)
        measured = self.player.truth is not None and isinstance(body.model, ReducedModel)
        if trust is not None:
            level, estimate = trust
            x, y = imgui.GetCursorScreenPos()
            imgui.GetWindowDrawList().AddCircleFilled((x + 7, y + 9), 6.0, imgui.GetColorU32(LIGHTS[level]))
            imgui.SetCursorPosX(COLUMNS[0])
            imgui.TextColored(FAINT, f"error about {100 * estimate:.1f} %")
            imgui.SameLine(COLUMNS[1])
        elif measured:
            imgui.SetCursorPosX(COLUMNS[0])
        if measured:
            imgui.TextColored(FAINT, f"tip error {100 * self.history.errors[-1, self.player.bodies.index(body)]:.1f} %")
        elif trust is not None:
            imgui.NewLine()

    def _loads(self) -> None:
        imgui.SeparatorText("Loads, in those of the training")
        imgui.PushItemWidth(WIDTH - LABELS)
        for name, amplitudes in self.player.amplitudes.items():
            if len(amplitudes) == 3:
                _, amplitudes[:] = imgui.SliderFloat3(f"{name} xyz", amplitudes.tolist(), -LARGEST_LOAD, LARGEST_LOAD, "%.2f")
            else:
                _, amplitudes[0] = imgui.SliderFloat(name, float(amplitudes[0]), -LARGEST_LOAD, LARGEST_LOAD, "%.2f")
        imgui.PopItemWidth()
        self._gravity()
        if imgui.Button("Let go of everything", (-1, 0)):
            self.player.let_go()

    def _gravity(self) -> None:
        if self.player.gravity is None:
            return
        name, unit = self.player.gravity
        load = self.player.amplitudes[name]
        dial("gravity", load, LARGEST_LOAD)
        imgui.SameLine(2 * RADIUS + 32)
        imgui.BeginGroup()
        imgui.Text(f"gravity {unit * float(np.linalg.norm(load)):.2f} m/s^2")
        imgui.TextColored(FAINT, "drag the knob to where it pulls,\nas seen here")
        imgui.EndGroup()

    def _stepping(self) -> None:
        if not imgui.CollapsingHeader("Time stepping"):
            return
        player, names = self.player, list(SCHEMES)
        imgui.PushItemWidth(WIDTH - LABELS)
        changed, chosen = imgui.Combo("scheme", names.index(player.scheme), names)
        if changed:
            player.scheme = names[chosen]
        clamped = imgui.ImGuiSliderFlags_AlwaysClamp  # what is typed in as well
        logarithmic = clamped | imgui.ImGuiSliderFlags_Logarithmic
        changed, milliseconds = imgui.SliderFloat("step", 1e3 * player.dt, 1e3 * DTS[0], 1e3 * DTS[1], "%.1f ms", logarithmic)
        if changed:
            player.dt = 1e-3 * milliseconds
        slow, mass = imgui.SliderFloat("drag", player.damping.mass, 0.0, MOST_DAMPING.mass, "%.2f 1/s", clamped)
        fast, stiffness = imgui.SliderFloat("viscosity", 1e3 * player.damping.stiffness, 0.0, 1e3 * MOST_DAMPING.stiffness, "%.1f ms", clamped)
        if slow or fast:
            player.damping = Rayleigh(mass, 1e-3 * stiffness)
        imgui.PopItemWidth()

    def _poses(self) -> None:
        """Walk through the subspace with the dynamics off."""
        player, lead = self.player, self.player.bodies[0]
        if not isinstance(lead.model, ReducedModel) or not imgui.CollapsingHeader("Latent coordinates"):
            return
        changed, held = imgui.Checkbox("hold still and walk through the subspace", player.pose is not None)
        if changed:
            player.pose = lead.state.q.copy() if held else None
        q = lead.state.q if player.pose is None else player.pose
        imgui.BeginDisabled(player.pose is None)
        imgui.PushItemWidth(WIDTH - LABELS)
        reach = max(2.0, float(np.abs(q).max()))
        for k in range(len(q)):
            changed, value = imgui.SliderFloat(f"q{k}", float(q[k]), -reach, reach, "%.2f")
            if changed and player.pose is not None:
                player.pose[k] = value
        imgui.PopItemWidth()
        imgui.EndDisabled()

    def _looks(self) -> None:
        if not imgui.CollapsingHeader("Look"):
            return
        scene, names = self.scene, ["none", *FIELDS]
        imgui.PushItemWidth(WIDTH - LABELS)
        changed, chosen = imgui.Combo("colour", names.index(scene.field), names)
        if changed:
            scene.unpaint()
            scene.field = names[chosen]
        imgui.PopItemWidth()
        if len(self.player.bodies) > 1:
            changed, scene.apart = imgui.Checkbox("side by side", scene.apart)
            if changed:
                scene.arrange()
        if imgui.Button("Camera back", (-1, 0)):
            scene.look()

    def _keep(self) -> None:
        imgui.SeparatorText("Save a")
        if imgui.Button("Recording", (100, 0)) and self.player.recording.steps:
            self._save(self.player.recording.save, unused("recording", ".json"), "play it again with --replay")
        imgui.SameLine()
        if imgui.Button("Picture", (100, 0)):
            self._save(self.scene.save_picture, unused("picture", ".png"), "without this panel")
        imgui.SameLine()
        if imgui.Button("End film" if self.film else "Film", (100, 0)):
            self._toggle_film()
        if self.film is not None and self.film.ended:
            self.message = f"writing {self.film.path}: {self.film.waiting} frames to go"
        if self.film is not None and self.film.done:
            self.message = self.film.error or f"saved {self.film.path}"
            self.film = None
        imgui.PushTextWrapPos(0.0)
        imgui.TextColored(FAINT, self.message)
        imgui.PopTextWrapPos()

    def _toggle_film(self) -> None:
        if self.film is None:
            self.film = LiveFilm(unused("film", ".mp4"))
            self.message = "recording a film of the scene, without this panel"
        else:
            self.film.finish()

    def _save(self, write: Callable[[Path], Path], path: Path, remark: str) -> None:
        """Write a file and say so, or why not."""
        try:
            self.message = f"saved {write(path)}: {remark}"
        except OSError as error:
            self.message = str(error.strerror)


def unused(stem: str, suffix: str) -> Path:
    """The first of stem-1, stem-2, ... in the working directory that is not there yet."""
    return next(path for number in range(1, 10**6) if not (path := Path(f"{stem}-{number}{suffix}")).exists())
