<%
    String user = request.getParameter("j_username");
    if (user == null || user.isEmpty()) {
        response.sendRedirect(request.getContextPath() + "/login.jsp");
        return;
    }
    // As the application: who logs in gets another session.
    request.getSession(true).setAttribute("user", user);
    request.changeSessionId();
    response.setStatus(303);
    response.setHeader("Location", request.getContextPath() + "/auth/forwardUser.jsp");
%>
